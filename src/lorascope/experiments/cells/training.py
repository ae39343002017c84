"""What all ways of training have in common: the models as they are trained, the rates, and the best of them."""

import copy
import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ...theory import Model
from ..networks import generator_for
from .data import objective_of, training_data
from .measured import Spec

__all__ = ["Watch", "grid_metrics", "prepared", "rates_of", "step_settings", "trained_metrics"]


class Watch:
    """Lowest held-out loss of every run, which is that of the parameters it returns, and the losses at some steps.

    Args:
        steps: of a curve.
    """

    def __init__(self, steps: Sequence[int] = ()) -> None:
        self.lowest: Tensor | None = None
        self._steps, self._losses = frozenset(steps), dict[int, Tensor]()

    def __call__(self, step: int, losses: Tensor) -> None:
        seen = torch.where(losses.isfinite(), losses, math.inf).double().cpu()
        if step in self._steps:
            self._losses[step] = seen
        self.lowest = seen if self.lowest is None else torch.minimum(self.lowest, seen)

    def best(self, runs: range) -> int:
        assert self.lowest is not None
        return runs[int(self.lowest[runs.start : runs.stop].argmin())]

    def curve(self, run: int) -> dict[str, float]:
        """The losses of a run before each step of the curve, as metrics."""
        return {f"curve_mse@{step}": float(losses[run]) for step, losses in self._losses.items()}


def prepared(spec: Spec, frozen: Model, target: Model, device: str) -> tuple[Model, Model]:
    """Copies where and in the precision in which the steps are made."""
    dtype = getattr(torch, spec["dtype"])
    return copy.deepcopy(frozen).to(device, dtype), copy.deepcopy(target).to(device, dtype)


def step_settings(spec: Spec) -> dict[str, Any]:
    """Arguments that all functions of ``tune`` with a grid of rates share."""
    settings = {key: spec[key] for key in ("lr", "weight_decay", "steps", "batch", "validate_every")}
    source = generator_for("training", **spec)
    return settings | {"generator": source} | training_data(spec, source)


def rates_of(spec: Spec) -> list[tuple[float, float]]:
    """Learning rate and weight decay of every run, in the order in which ``tune`` has them."""
    return list(product(spec["lr"], spec["weight_decay"]))


def trained_metrics(spec: Spec, watch: Watch, run: int, rates: tuple[float, float]) -> dict[str, float]:
    """The lowest held-out loss of a run, and the rates that had it."""
    assert watch.lowest is not None
    loss = "validation_mse" if objective_of(spec) == "mse" else "validation_kl"
    return {loss: float(watch.lowest[run]), "lr": rates[0], "weight_decay": rates[1]}


def grid_metrics(spec: Spec, watch: Watch) -> dict[str, float]:
    """The same for the best run of the grid."""
    rates = rates_of(spec)
    best = watch.best(range(len(rates)))
    return trained_metrics(spec, watch, best, rates[best])
