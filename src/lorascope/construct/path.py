"""Exact adapters of small norm for a deep product: follow an exact path from an all-orthogonal problem."""

import math
from dataclasses import dataclass
from time import monotonic

import torch
from torch import Tensor

from ..linalg import product, tolerance
from ..shapes import Float
from .factors import Factors, balance, factor_differences
from .flag import adapted_from_flag
from .tangent import Tangent

__all__ = ["PathReport", "correct", "orthogonal_path", "polish", "share", "shrink"]

LEAST_STEP = 1e-3
# Adapters of a spectral norm below this many frozen norms are not worth more shrinking: rounding no longer suffers.
SMALL_NORM = 5.0


@dataclass(frozen=True)
class PathReport:
    """What following the path took: where it ended (1 is the problem itself), accepted steps, refused steps."""

    reached: float
    steps: int
    refused: int


class _Family:
    """Problems from all factors orthogonal up to one scale (t = 0) to the given one (t = 1).

    ``W_l(t) = U diag(c^(1-t) s^t) V`` and ``goal(t) = u diag(c^(L(1-t)) z^t) v``; singular values at rounding level
    move on a straight line instead, so that singular weights are reached as well.
    """

    def __init__(
        self, weights: Float[Tensor, "depth width width"], goal: Float[Tensor, "width width"], stretch: float
    ) -> None:
        self.weights = torch.linalg.svd(weights)
        self.goal = torch.linalg.svd(goal)
        self.depth = len(weights)
        values = self.goal[1]
        lively = values[values > tolerance(len(values), float(values[0]))]
        self.scale = stretch * float(lively.log().mean().exp() ** (1 / self.depth)) if len(lively) else stretch

    def at(self, time: float) -> tuple[Float[Tensor, "depth width width"], Float[Tensor, "width width"]]:
        left, values, right = self.weights
        weights = (left * _between(self.scale, values, time)[:, None, :]) @ right
        left, values, right = self.goal
        return weights, (left * _between(self.scale**self.depth, values, time)) @ right


def _between(start: float, values: Tensor, time: float) -> Tensor:
    floor = tolerance(values.shape[-1]) * values.amax(-1, keepdim=True)
    curved = start ** (1 - time) * values.clamp(min=torch.finfo(values.dtype).tiny) ** time
    return torch.where(values > floor, curved, (1 - time) * start + time * values)


def orthogonal_path(
    weights: Float[Tensor, "depth width width"],
    goal: Float[Tensor, "width width"],
    ranks: tuple[int, ...],
    *,
    stretch: float = 1.0,
    accuracy: float = 1e-5,
    shrinks: int = 15,
    deadline: float = math.inf,
    give_up: float = math.inf,
) -> tuple[Factors, PathReport]:
    """Adapters with ``prod_l (W_l + B_l A_l) = goal``, found by continuation.

    At t = 0 all factors are orthogonal up to one scale and a flag of invariant planes solves the problem with
    adapters of norm about 2c. From there Levenberg-Marquardt keeps the product exact while t grows, and steps in the
    Jacobian's null space keep the adapters small.

    Args:
        weights: frozen factors, first one acting first.
        goal: what their adapted product must be.
        ranks: one per factor, summing to at least the width.
        stretch: scale of the orthogonal problem relative to the goal's geometric mean.
        accuracy: relative residual kept on the way.
        shrinks: at most this many norm-reducing steps at the end.
        deadline: ``time.monotonic()`` after which no norm-reducing step is begun at the end.
        give_up: ``time.monotonic()`` after which the path is left.

    Returns:
        The factors, and how the path went; ``reached < 1`` means the factors solve another problem.
    """
    family = _Family(weights, goal, stretch)
    left, right = _orthogonal_start(*family.at(0.0), ranks)
    left, right = correct(*family.at(0.0), left, right, accuracy / 10)
    left, right, pace = shrink(*family.at(0.0), left, right, accuracy, count=10, pace=0.3, least_gain=0.02)
    time, step, steps, refused = 0.0, 0.1, 0, 0
    while time < 1 and step >= LEAST_STEP and steps + refused < 160 and monotonic() < give_up:
        reach = min(1.0, time + step)
        problem = family.at(reach) if reach < 1 else (weights, goal)
        trial = correct(*problem, left, right, accuracy)
        tangent_error = Tangent(*problem, *trial).error
        if tangent_error < accuracy and _size(*trial) < 2 * _size(left, right) + family.scale * sum(ranks):
            time, steps = reach, steps + 1
            left, right = balance(*trial)
            left, right, pace = shrink(*problem, left, right, accuracy, count=1, pace=max(pace, 0.05))
            step = min(1.5 * step, 0.25)
        else:
            step, refused = step / 2, refused + 1
    if time >= 1:
        left, right = _finish(weights, goal, left, right, accuracy, shrinks, deadline)
    return Factors.trimmed(left, right), PathReport(time, steps, refused)


def _finish(
    weights: Tensor, goal: Tensor, left: Tensor, right: Tensor, accuracy: float, shrinks: int, deadline: float
) -> tuple[Tensor, Tensor]:
    enough = SMALL_NORM * float(torch.linalg.matrix_norm(weights, 2).max())
    pace = 0.3
    for _ in range(shrinks):
        if float(torch.linalg.matrix_norm(left @ right, 2).max()) <= enough or monotonic() > deadline:
            break
        before = _size(left, right)
        left, right, pace = shrink(weights, goal, left, right, accuracy, count=1, pace=pace)
        if _size(left, right) > 0.99 * before:
            break
    return polish(weights, goal, left, right)


def polish(weights: Tensor, goal: Tensor, left: Tensor, right: Tensor, rounds: int = 8) -> tuple[Tensor, Tensor]:
    """Undamped corrections until the residual stops falling: the last digits."""
    error = Tangent(weights, goal, left, right).error
    for _ in range(rounds):
        if error < 1e-15:
            break
        trial = correct(weights, goal, left, right, 1e-16, rounds=1, tolerance=0.03)
        reached = Tangent(weights, goal, *trial).error
        if not reached < 0.7 * error:
            break
        left, right, error = *trial, reached
    return left, right


def correct(
    weights: Float[Tensor, "depth width width"],
    goal: Float[Tensor, "width width"],
    left: Float[Tensor, "depth width rank"],
    right: Float[Tensor, "depth rank width"],
    accuracy: float,
    rounds: int = 12,
    damping: float = 1e-14,
    tolerance: float = 0.1,
) -> tuple[Tensor, Tensor]:
    """Levenberg-Marquardt on the product until its relative residual is below ``accuracy`` or stops falling.

    The step is the smallest one: ``J^T (J J^T + damping I)^{-1} F``, solved to ``tolerance``; ``damping`` is where it
    starts, relative to the mean diagonal entry of ``J J^T``.
    """
    here = Tangent(weights, goal, left, right)
    for _ in range(rounds):
        if here.error < accuracy or not math.isfinite(here.error):
            break
        for _ in range(8):
            solution = here.solve(here.residual, damping, tolerance)
            if solution is None:
                damping = max(100 * damping, 1e-12)
                continue
            change = here.pull(solution)
            there = Tangent(weights, goal, here.left - change[0], here.right - change[1])
            if there.error < here.error:
                here, damping = there, max(damping / 10, 1e-14)
                break
            damping = max(30 * damping, 1e-9)
        else:
            break
    return here.left, here.right


def shrink(
    weights: Float[Tensor, "depth width width"],
    goal: Float[Tensor, "width width"],
    left: Float[Tensor, "depth width rank"],
    right: Float[Tensor, "depth rank width"],
    accuracy: float,
    *,
    count: int,
    pace: float,
    least_gain: float = 5e-3,
) -> tuple[Tensor, Tensor, float]:
    """Smaller adapters for the same product: ``theta -= pace (I - J^+ J) theta``, then correct.

    Returns the factors and the pace that worked.
    """
    size = _size(left, right)
    for _ in range(count):
        here = Tangent(weights, goal, left, right)
        solution = here.solve(here.push(left, right), 1e-14)
        if solution is None:
            break
        change = here.pull(solution)
        for _ in range(6):
            trial = correct(
                weights,
                goal,
                left - pace * (left - change[0]),
                right - pace * (right - change[1]),
                accuracy,
                rounds=5,
            )
            if Tangent(weights, goal, *trial).error < accuracy and _size(*trial) < size:
                break
            pace *= 0.35
        else:
            break
        left, right = balance(*trial)
        gain, size = 1 - _size(left, right) / size, _size(left, right)
        pace = min(1.5 * pace, 0.8)
        if gain < least_gain:
            break
    return left, right, pace


def _size(left: Tensor, right: Tensor) -> float:
    """Sum of squares of all entries."""
    return float(left.square().sum() + right.square().sum())


def _orthogonal_start(weights: Tensor, goal: Tensor, ranks: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Exact factors where all matrices are orthogonal up to scale.

    ``Z = (prod W)^{-1} goal`` is orthogonal up to scale, so eigenvectors of ``Z + Z^T`` span invariant planes; groups
    of them are a flag on which every adapted prefix stays orthogonal up to scale. A single -1 of Z is paired with a
    single 1 (even width) or stands alone in front (odd width), so that no plane is cut needlessly.
    """
    ratio = torch.linalg.solve(product(list(weights)), goal)
    values, vectors = torch.linalg.eigh((ratio + ratio.T) / 2)
    width = len(values)
    single = width > 1 and abs(float(values[0]) + 1) < 1e-8 < abs(float(values[0] - values[1]))
    if single and width % 2 == 0:
        vectors = torch.cat([vectors[:, :1], vectors[:, -1:], vectors[:, 1:-1]], dim=1)
    elif single:
        vectors = vectors.roll(-1, dims=1)
    return factor_differences(adapted_from_flag(weights, goal, vectors, share(width, ranks)), weights, ranks)


def share(width: int, ranks: tuple[int, ...]) -> tuple[int, ...]:
    """Dimensions of the flag's parts: as even as the ranks allow, summing to the width."""
    parts = [0] * len(ranks)
    for _ in range(width):
        free = [index for index, rank in enumerate(ranks) if parts[index] < rank]
        parts[min(free, key=lambda index: parts[index] / ranks[index])] += 1
    return tuple(parts)
