"""Levenberg-Marquardt on normal equations: for residuals far more numerous than parameters."""

import math
from dataclasses import dataclass
from time import monotonic
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..shapes import Float

__all__ = ["LeastSquares", "Minimum", "levenberg_marquardt"]

# Dampings tried side by side, relative to the last that worked: the normal equations cost more than a few solves.
# The later rows are tried where none of the row before gains.
TRIALS = ((0.03, 1.0, 30.0), (1e3, 1e5), (1e7,))
DAMPINGS = (1e-9, 1e8)
# A parameter whose curvature is far below the mean is damped as if it had this share of it.
LEAST_CURVATURE = 1e-3


@runtime_checkable
class LeastSquares(Protocol):
    """A mean square of residuals, over one flat vector of parameters."""

    def normalized(self, point: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The same model in its best-scaled parameters (where several describe it)."""
        ...

    def normal_equations(self, point: Float[Tensor, " n"]) -> tuple[Float[Tensor, "n n"], Float[Tensor, " n"]]:
        """``J^T J`` and ``J^T r`` of the mean square ``r^T r`` (over residuals and samples), at a normalized point."""
        ...

    def moved(self, point: Float[Tensor, " n"], step: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
        """The point after a step in the coordinates of the normal equations."""
        ...

    def loss(self, point: Float[Tensor, " n"]) -> float:
        """The mean square."""
        ...


@dataclass(frozen=True)
class Minimum:
    """Where a descent ended.

    Attributes:
        point: the parameters.
        loss: the mean square there, never above the one at the start.
        steps: how many were taken.
    """

    point: Float[Tensor, " n"]
    loss: float
    steps: int


def levenberg_marquardt(
    problem: LeastSquares,
    point: Float[Tensor, " n"],
    steps: int,
    *,
    damping: float = 1e-2,
    least_gain: float = 2e-4,
    patience: int = 3,
    deadline: float = math.inf,
) -> Minimum:
    """Steps ``-(J^T J + mu diag(J^T J))^{-1} J^T r``, with the best of several ``mu`` at each; never uphill.

    Args:
        problem: the residuals' normal equations and loss.
        point: start.
        steps: at most so many.
        damping: first ``mu``.
        least_gain: relative; ``patience`` steps in a row below it end the descent.
        patience: see above.
        deadline: of :func:`time.monotonic`; no step begins after it.

    Source: Marquardt 1963. Cost: the normal equations and some Cholesky factorisations a step.
    """
    loss, stalled, taken = problem.loss(point), 0, 0
    while taken < steps and stalled < patience and loss > 0 and monotonic() < deadline:
        here = problem.normalized(point)
        matrix, gradient = problem.normal_equations(here)
        scale = matrix.diagonal().clone()
        scale = scale.clamp(min=max(LEAST_CURVATURE * float(scale.mean()), torch.finfo(scale.dtype).tiny))
        found = None
        for row in TRIALS:
            for factor in row:
                trial = min(max(damping * factor, DAMPINGS[0]), DAMPINGS[1])
                candidate = _solved(matrix, scale * trial, gradient)
                if candidate is None:
                    continue
                moved = problem.moved(here, -candidate)
                value = problem.loss(moved)
                if value < (loss if found is None else found[0]):
                    found = (value, moved, trial)
            if found is not None:
                break
        if found is None:
            break
        stalled = stalled + 1 if loss - found[0] < least_gain * loss else 0
        loss, point, damping = found
        taken += 1
    return Minimum(point, loss, taken)


def _solved(matrix: Tensor, damping: Tensor, gradient: Tensor) -> Tensor | None:
    factor, failed = torch.linalg.cholesky_ex(matrix + torch.diag(damping))
    if failed:
        return None
    return torch.cholesky_solve(gradient[:, None], factor)[:, 0]
