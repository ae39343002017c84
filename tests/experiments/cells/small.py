"""Suites of one pair of networks, and plain ways to compute what their cells measure."""

import numpy as np
import torch

from experiments.tiny import TINY
from lorascope.experiments import grid, parse_suite
from lorascope.experiments.networks import generator_for
from reference.forward import fnn, transformer

SMOKE = {key: value for key, value in TINY["scales"]["smoke"].items() if key not in ("layers", "ranks")}


def suite(methods, smoke=(), **content):
    """Cells of a tiny suite of one seed."""
    scale = SMOKE | {"seeds": [3]} | dict(smoke)
    described = TINY | {"inits": ["random"], "methods": methods} | content | {"scales": {"smoke": scale}}
    return grid(parse_suite(described, "tiny"), "smoke")


def specs(methods, smoke=(), **content):
    """The same, of one pair of networks, by method."""
    return {spec["method"]: spec for spec in suite(methods, smoke, **content)}


TRANSFORMER = {
    "model": "transformer",
    "heads": 2,
    "tokens": 3,
    "depths": [{"target": 2, "frozen": 2}],
}


def outputs(model, inputs):
    """Output by output, as the paper writes the networks; inputs (samples, width) or (samples, tokens, width)."""
    state = {name: value.detach().double().numpy() for name, value in model.named_parameters()}
    if inputs.ndim == 2:
        layers = [f"layers.{index}" for index in range(model.depth)]
        weights = [state[f"{name}.weight"] for name in layers]
        biases = [state[f"{name}.bias"] for name in layers]
        return np.stack([fnn(point, weights, biases) for point in inputs.numpy()])
    blocks = [
        {
            **{
                key: list(state[f"{name}.{long}"])
                for key, long in zip("QKVO", ("query", "key", "value", "out"), strict=True)
            },
            "W1": state[f"{name}.ffn_in.weight"],
            "b1": state[f"{name}.ffn_in.bias"],
            "W2": state[f"{name}.ffn_out.weight"],
            "b2": state[f"{name}.ffn_out.bias"],
        }
        for name in (f"blocks.{index}" for index in range(model.depth))
    ]
    return np.stack([transformer(tokens.T, blocks, state["output.weight"]).T for tokens in inputs.numpy()])


def fresh(spec):
    """As many test inputs as the cell says, drawn anew."""
    shape = {"number": spec["test_inputs"], "width": spec["width"]}
    shape |= {"tokens": spec["tokens"]} if "tokens" in spec else {}
    source = generator_for("test inputs", seed=spec["seed"], **shape)
    order = [shape[key] for key in ("number", "tokens", "width") if key in shape]
    return torch.randn(*order, generator=source, dtype=torch.float64)
