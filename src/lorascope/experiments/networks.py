"""The networks of a cell: a target, and a frozen one that is random or has been trained a little towards it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..models import FNN, TransformerNetwork
from ..records import cell_seed
from ..shapes import Float
from ..theory import Model

__all__ = ["draw_pair", "fresh_inputs", "generator_for", "mean_squared_error", "pretrained"]

HELD_OUT = 2048  # inputs that tell when pretraining may stop
BATCH = 256


def generator_for(draw: str, **what: object) -> torch.Generator:
    """A source of random numbers that depends on the name of the draw and on what is said, and on nothing else."""
    return torch.Generator().manual_seed(cell_seed({"draw": draw, **what}))


def draw_pair(spec: Mapping[str, Any]) -> tuple[Model, Model]:
    """The frozen network and the target of a cell, in float64.

    They are the same for every method and rank, and in every suite: only shape, kind of start and seed count.
    """
    target = _draw(spec, "target", spec["target_depth"])
    frozen = _draw(spec, "frozen", spec["frozen_depth"])
    if spec["init"] == "pretrained":
        source = generator_for("pretraining", frozen=spec["frozen_depth"], target=spec["target_depth"], **_kind(spec))
        pretrained(frozen, target, source, tokens=spec.get("tokens"), **spec["pretrain"])
    return frozen, target


def _draw(spec: Mapping[str, Any], role: str, depth: int) -> Model:
    source = generator_for(role, depth=depth, **_kind(spec))
    if spec["model"] == "transformer":
        return TransformerNetwork(spec["width"], spec["heads"], depth, generator=source)
    return FNN(spec["width"], depth, spec["activation"], spec["bias"], generator=source)


def _kind(spec: Mapping[str, Any]) -> dict[str, object]:
    """What draws depend on besides depths."""
    if spec["model"] == "transformer":
        return {key: spec[key] for key in ("model", "width", "heads", "seed")}
    return {key: spec[key] for key in ("width", "activation", "bias", "seed")}


def pretrained(
    frozen: Model,
    target: Model,
    generator: torch.Generator,
    lr: float,
    steps: int,
    level: float,
    tokens: int | None = None,
) -> tuple[float, float]:
    """Train all of a network's parameters, in place, by Adam until its loss falls to ``level`` times the first.

    Args:
        frozen: to be trained.
        target: what it imitates, on fresh inputs from N(0, I).
        generator: of the inputs: those the loss is measured on, then a batch a step.
        lr, steps: of Adam; after so many steps it ends in any case.
        level: share of the first loss; at 1 nothing is done.
        tokens: of an input, for transformers.

    Returns:
        The loss before and after, on the same inputs.

    Source: Zeng & Lee 2024, Section 5. Departs in that the loss which decides is one of inputs never trained on. Cost
    O(steps depth width^2).

    >>> first, last = pretrained(FNN(4, 2), FNN(4, 1), torch.Generator().manual_seed(0), 1e-2, 1000, 1 / 3)
    >>> last < first / 3
    True
    """
    width = next(frozen.parameters()).shape[-1]
    shape = (width,) if tokens is None else (tokens, width)
    held_out = torch.randn(HELD_OUT, *shape, generator=generator, dtype=torch.float64)
    optimiser = torch.optim.Adam(frozen.parameters(), lr=lr)
    first = last = mean_squared_error(frozen, target, held_out)
    for _ in range(steps):
        if last <= level * first:
            break
        inputs = torch.randn(BATCH, *shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            wanted = target(inputs)
        optimiser.zero_grad()
        (frozen(inputs) - wanted).square().mean().backward()
        optimiser.step()
        last = mean_squared_error(frozen, target, held_out)
    frozen.zero_grad()
    return first, last


def fresh_inputs(spec: Mapping[str, Any]) -> Float[Tensor, "samples *seq inp"]:
    """Fresh inputs from N(0, I), which no training sees; the same for every method."""
    number, width, tokens = spec["test_inputs"], spec["width"], spec.get("tokens")
    shape = {"number": number, "width": width} | ({} if tokens is None else {"tokens": tokens})
    source = generator_for("test inputs", seed=spec["seed"], **shape)
    return torch.randn(
        *(shape[key] for key in ("number", "tokens", "width") if key in shape), generator=source, dtype=torch.float64
    )


def mean_squared_error(model: Model, target: Model, inputs: Float[Tensor, "samples *seq inp"]) -> float:
    """Over inputs and coordinates, in the models' precision."""
    with torch.no_grad():
        return float((model(inputs) - target(inputs)).square().mean())
