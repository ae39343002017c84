"""The networks of a cell: a target, and a frozen one that is random or has been trained a little towards it."""

import copy
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..adaptation import Sampler
from ..models import FNN, TransformerNetwork
from ..records import canonical_json, cell_seed
from ..shapes import Float
from ..theory import Model

__all__ = [
    "draw_pair",
    "fresh_inputs",
    "generator_for",
    "inputs_for",
    "mean_squared_error",
    "pretrained",
    "sampler_for",
]

BATCH = 256  # of pretraining
TOKENS = 10  # what constructions and training draw, unless they are told otherwise
# What a pair of networks depends on.
PAIR = (
    *("model", "width", "activation", "bias", "heads", "tokens"),
    *("target_depth", "frozen_depth", "init", "pretrain", "seed"),
)


def generator_for(draw: str, **what: object) -> torch.Generator:
    """A source of random numbers that depends on the name of the draw and on what is said, and on nothing else."""
    return torch.Generator().manual_seed(cell_seed({"draw": draw, **what}))


def draw_pair(spec: Mapping[str, Any]) -> tuple[Model, Model]:
    """The frozen network and the target of a cell, in float64; in the cell's own precision where that is the question.

    They are the same for every method and rank, and in every suite: only shape, kind of start and seed count. FNNs of
    seeds 0 to 4 are the very ones of the paper's experiments: the target's layers and then the frozen network's, drawn
    in float32 from one source with that seed, as torch draws its linear layers.
    """
    frozen, target = copy.deepcopy(_pair(canonical_json({key: spec[key] for key in PAIR if key in spec})))
    dtype = getattr(torch, spec["dtype"] if spec.get("measure") == "exactness" else "float64")
    return frozen.to(dtype), target.to(dtype)


@lru_cache(maxsize=2)  # a run's next cell often has the same networks, and pretraining takes seconds
def _pair(pair: str) -> tuple[Model, Model]:
    spec = json.loads(pair)
    source = torch.Generator().manual_seed(spec["seed"])
    target = _draw(spec, spec["target_depth"], source)
    frozen = _draw(spec, spec["frozen_depth"], source)
    if spec["init"] == "pretrained":
        source = torch.Generator().manual_seed(spec["seed"])
        pretrained(frozen, target, source, tokens=spec.get("tokens"), **spec["pretrain"])
    return frozen, target


def _draw(spec: Mapping[str, Any], depth: int, source: torch.Generator) -> Model:
    if spec["model"] == "transformer":
        return TransformerNetwork(spec["width"], spec["heads"], depth, generator=source, dtype=torch.float32)
    return FNN(spec["width"], depth, spec["activation"], spec["bias"], source, torch.float32)


def pretrained(
    frozen: Model,
    target: Model,
    generator: torch.Generator,
    lr: float,
    steps: int,
    level: float,
    tokens: int | None = None,
) -> tuple[float, float]:
    """Train all of a network's parameters, in place, by Adam until its loss falls below ``level`` times the first.

    Args:
        frozen: to be trained.
        target: what it imitates, on fresh inputs from N(0, I).
        generator: of the inputs, a batch a step; each is measured before it is trained on.
        lr, steps: of Adam; after so many steps it ends in any case.
        level: share of the first loss; at 1 nothing is done.
        tokens: of an input, for transformers.

    Returns:
        The mean squared errors on the first batch and on the last one, before it was trained on.

    Source: Zeng & Lee 2024, Section 5; batch by batch what the authors' code does. Cost O(steps depth width^2).

    >>> first, last = pretrained(FNN(4, 2), FNN(4, 1), torch.Generator().manual_seed(0), 1e-2, 1000, 1 / 3)
    >>> last < first / 3
    True
    """
    like = next(frozen.parameters())
    shape = (like.shape[-1],) if tokens is None else (tokens, like.shape[-1])
    optimiser = torch.optim.Adam(frozen.parameters(), lr=lr)
    first = last = math.inf
    for step in range(steps + 1):
        inputs = torch.randn(BATCH, *shape, generator=generator).to(like)
        with torch.no_grad():
            wanted = target(inputs)
        loss = (frozen(inputs) - wanted).square().mean()
        last = float(loss.detach())
        first = first if step else last
        if last < level * first or level == 1 or step == steps:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    frozen.zero_grad()
    return first, last


def fresh_inputs(spec: Mapping[str, Any]) -> Float[Tensor, "samples *seq inp"]:
    """Fresh inputs from N(0, I), which no training sees; the same for every method."""
    return inputs_for(spec, "test inputs", spec["test_inputs"])


def inputs_for(spec: Mapping[str, Any], draw: str, number: int) -> Float[Tensor, "samples *seq inp"]:
    """So many inputs from N(0, I) that depend on the name of the draw, their shape and the cell's seed alone."""
    width, tokens = spec["width"], spec.get("tokens")
    shape = {"number": number, "width": width} | ({} if tokens is None else {"tokens": tokens})
    source = generator_for(draw, seed=spec["seed"], **shape)
    return torch.randn(
        *(shape[key] for key in ("number", "tokens", "width") if key in shape), generator=source, dtype=torch.float64
    )


def sampler_for(spec: Mapping[str, Any], generator: torch.Generator) -> Sampler | None:
    """Draws of N(0, I) of as many tokens as the cell's inputs have; None where that is what is drawn anyway."""
    tokens, width = spec.get("tokens"), spec["width"]
    if tokens is None or tokens == TOKENS:
        return None
    return lambda count: torch.randn(count, tokens, width, generator=generator, dtype=torch.float64)


def mean_squared_error(model: Model, target: Model, inputs: Float[Tensor, "samples *seq inp"]) -> float:
    """Over inputs and coordinates, in the models' precision."""
    with torch.no_grad():
        return float((model(inputs) - target(inputs)).square().mean())
