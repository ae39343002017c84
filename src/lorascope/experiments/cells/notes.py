"""What there is to say of a trained network beside its numbers."""

from typing import Any

import torch

from ... import tune
from ...adaptation import Adaptation
from ...models import FNN
from ...theory import Model
from ..networks import fresh_inputs
from .measured import Spec

__all__ = ["notes"]


def notes(spec: Spec, trained: Model, found: Adaptation[Any], target: Model) -> str:
    """The engine that made the steps, and how much of the error is out of their reach.

    Args:
        trained: the frozen network as it was handed to the engine.
        found: what came out.
    """
    engine = tune.engine_for(trained)
    said = [f"steps by the {engine.name} engine ({engine.why})"]
    if isinstance(trained, FNN) and trained.activation == "relu":
        said += _dead_outputs(spec, found.model, target)
    return "; ".join(said)


def _dead_outputs(spec: Spec, model: FNN, target: Model) -> list[str]:
    """Output units that are 0 everywhere: a property of the draw that no gradient of their own can change."""
    inputs = fresh_inputs(spec)
    with torch.no_grad():
        out, wanted = model.to("cpu", torch.float64)(inputs), target(inputs)
    dead = (out.amax(dim=0) == 0) & (wanted.amax(dim=0) > 0)
    if not dead.any():
        return []
    error = float((out - wanted).square().mean())
    theirs = float(wanted[:, dead].square().sum()) / wanted.numel()
    count = f"{int(dead.sum())} of {len(dead)} outputs are 0 on every test input"
    return [f"{count}: {theirs:.3g} of the error {error:.3g} is theirs, and they get no gradient"]
