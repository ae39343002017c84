"""What a cell trains on, from where, and towards what."""

import math
from typing import Any

import torch

from ... import construct, tune
from ...optim import ObjectiveName
from ...theory import Model
from ..networks import inputs_for, sampler_for
from .measured import Spec

__all__ = ["curve_steps", "objective_of", "starts_of", "training_data", "training_inputs"]

HELD_OUT = 2048  # inputs that decide between rates where training inputs are few
POINTS = 40  # of a curve


def objective_of(spec: Spec) -> ObjectiveName:
    """What gradient methods minimise for the cell's task."""
    task = spec.get("task", "regression")
    return "mse" if task == "regression" else task


def training_data(spec: Spec, source: torch.Generator) -> dict[str, Any]:
    """Arguments of ``tune``: the objective, and inputs where they are not fresh draws of the usual kind."""
    said: dict[str, Any] = {"objective": objective_of(spec)}
    if "train_inputs" in spec:
        return said | {"samples": training_inputs(spec), "held_out": inputs_for(spec, "held-out inputs", HELD_OUT)}
    return said | {"sampler": sampler_for(spec, source)}


def training_inputs(spec: Spec) -> torch.Tensor:
    """All inputs there are to train on; the same for every method."""
    return inputs_for(spec, "training inputs", spec["train_inputs"])


def curve_steps(spec: Spec) -> list[int]:
    """Steps before which a cell with a curve notes its losses: about 40, on a logarithmic scale, the last too."""
    if not spec.get("curve"):
        return []
    steps, every = spec["steps"], spec["validate_every"]
    places = {round(steps ** (place / (POINTS - 1))) for place in range(POINTS)}
    return sorted(step for step in places if step % every == 0 or step == steps)


def starts_of(spec: Spec, frozen: Model, target: Model) -> dict[int, tune.Start]:
    """Where adapters start, rank by rank; constructed ones are the closed form's own, with noise."""
    kind = spec.get("start", "zero")
    if kind != "constructed":
        return dict.fromkeys(spec["ranks"], tune.Start(kind))
    return {
        rank: tune.Start("near", construct.stable(frozen, target, rank, seconds=math.inf), spec["start_noise"])
        for rank in spec["ranks"]
    }
