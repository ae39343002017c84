"""One adapter for the stacked matrices of all heads: gauges of the heads for which the changes share their rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic

import torch
from torch import Tensor

from ..linalg import truncate
from ..shapes import Float
from ..theory import NarrowMatch
from .correction import through
from .gauge import nearest_gauge

__all__ = ["SOLVED", "Shared", "solve_shared"]

STEPS = 120
STARTS = 40
GOOD = 1e-12
SWEEPS = 30
# Relative residual of every head's product at which shared adapters count as exact.
SOLVED = 1e-9
# Gauges beyond this condition are no solutions: the equations hold for singular ones too.
LARGEST_CONDITION = 1e8


@dataclass(frozen=True)
class Shared:
    """Adapters of the two stacked factors of all heads' products.

    Attributes:
        first_in: (R, inp), shared by the heads; first_out: (heads, inner, R).
        second_in: (heads, R, inner); second_out: (out, R), shared by the heads.
        residual: largest relative Frobenius distance of a head's product from what is wanted.
        starts: how many starting points it took.
    """

    first_in: Float[Tensor, "rank inp"]
    first_out: Float[Tensor, "heads inner rank"]
    second_in: Float[Tensor, "heads rank inner"]
    second_out: Float[Tensor, "out rank"]
    residual: float
    starts: int


@dataclass(frozen=True)
class _Problem:
    """Stacks over heads: factors as their ends see them, and goals."""

    first: Tensor  # heads inner k
    second: Tensor  # heads m inner
    first_goal: Tensor
    second_goal: Tensor
    ranks: tuple[int, int]

    def changes(self, gauges: Tensor) -> tuple[Tensor, Tensor]:
        """``G F̄ - F`` stacked as (heads inner, k), and ``S̄ G^{-1} - S`` as (m, heads inner)."""
        first = gauges @ self.first_goal - self.first
        second = torch.linalg.solve(gauges, self.second_goal, left=False) - self.second
        return first.flatten(0, 1), _side_by_side(second)


def solve_shared(
    heads: Sequence[NarrowMatch], ranks: tuple[int, int], deadline: float, generator: torch.Generator
) -> Shared:
    """Adapters of rank ``ranks`` on both stacked factors, exact where Levenberg-Marquardt finds gauges that allow it.

    Unknown are a gauge ``G_h`` for every head and the directions N, M that the changes leave alone:
    ``(G_h F̄_h - F_h) N = 0`` and ``M^T (S_h G_h - S̄_h) = 0``, bilinear equations in all of them.

    Args:
        heads: products of all heads of a block, with the same ends.
        ranks: of the first and of the second stacked factor.
        deadline: ``time.monotonic()`` after which no further start is tried.
        generator: of the starting points.

    Where none are found, each stacked factor in turn gets the best low-rank change for the other.

    Source: new. Cost O((H d D)^3) a step.
    """
    goals = [match.gauge for match in heads]
    problem = _Problem(
        torch.stack([match.seen_first for match in heads]),
        torch.stack([match.seen_second for match in heads]),
        torch.stack([goal.first_goal for goal in goals]),
        torch.stack([goal.second_goal for goal in goals]),
        ranks,
    )
    reference = torch.stack(
        [
            nearest_gauge(match.seen_first, match.seen_second, goal.first_goal, goal.second_goal)
            for match, goal in zip(heads, goals, strict=True)
        ]
    )
    best = _alternating(heads, problem)
    inner = heads[0].inner
    # what is too little for a head's own adapter is too little for a shared one
    starts = STARTS if all(match.closed_by(ranks) for match in heads) else 0
    for start in range(1, starts + 1):
        gauges = reference
        if start > 1:
            noise = torch.randn(len(heads), inner, inner, generator=generator, dtype=torch.float64).to(reference)
            gauges = reference + 0.5 * noise * (0.3 + (start % 4) / 2) / inner**0.5
        found = _from_gauges(heads, problem, _descend(problem, gauges), start)
        best = replace(found if found.residual < SOLVED and _score(found) < _score(best) else best, starts=start)
        if best.residual < GOOD or monotonic() > deadline:
            break
    return best


def _descend(problem: _Problem, gauges: Tensor) -> Tensor:
    """Levenberg-Marquardt on the gauges and on the directions left alone."""
    first, second = problem.changes(gauges)
    kept = torch.linalg.svd(first).Vh[problem.ranks[0] :].T  # k, k - R
    lost = torch.linalg.svd(second).U[:, problem.ranks[1] :]  # m, m - R
    damping = 1e-2
    value = _residual(problem, gauges, kept, lost)
    for _ in range(STEPS):
        size = float(value.norm())
        if size <= 1e-14 * math.sqrt(value.numel()) or not math.isfinite(size):
            break
        jacobian = _jacobian(problem, gauges, kept, lost)
        normal = jacobian @ jacobian.T if len(jacobian) <= jacobian.shape[1] else jacobian.T @ jacobian
        unit = float(normal.diagonal().mean())
        improved = False
        for _ in range(8):
            step = _step(jacobian, normal, value, damping * min(size, 1.0) * unit)
            trial = _moved(gauges, kept, lost, step)
            reached = _residual(problem, *trial)
            if float(reached.norm()) < size:
                (gauges, kept, lost), value = trial, reached
                damping, improved = max(damping / 5, 1e-14), True
                break
            damping = min(damping * 6, 1e6)
        if not improved:
            break
    return gauges


def _residual(problem: _Problem, gauges: Tensor, kept: Tensor, lost: Tensor) -> Tensor:
    first = (gauges @ problem.first_goal - problem.first) @ kept / problem.first.norm()
    second = lost.T @ (problem.second @ gauges - problem.second_goal) / problem.second.norm()
    return torch.cat([first.flatten(), second.flatten()])


def _jacobian(problem: _Problem, gauges: Tensor, kept: Tensor, lost: Tensor) -> Tensor:
    """Rows as in :func:`_residual`; columns: gauges, turns of ``kept`` and of ``lost`` into their complements."""
    heads, inner = gauges.shape[:2]
    eye = torch.eye(inner, dtype=gauges.dtype, device=gauges.device)
    f_scale, s_scale = problem.first.norm(), problem.second.norm()
    free, left = kept.shape[1], lost.shape[1]
    by_first = torch.einsum("ab,hcn->hanbc", eye, problem.first_goal @ kept / f_scale)
    by_second = torch.einsum("ab,hmc->hmacb", eye, lost.T @ problem.second / s_scale)
    turn_first = (gauges @ problem.first_goal - problem.first) @ _rest(kept) / f_scale
    turn_second = _rest(lost).T @ (problem.second @ gauges - problem.second_goal) / s_scale
    unit_first = torch.eye(free, dtype=gauges.dtype, device=gauges.device)
    unit_second = torch.eye(left, dtype=gauges.dtype, device=gauges.device)
    rows_first, rows_second = heads * inner * free, heads * inner * left
    columns = heads * inner**2
    jacobian = gauges.new_zeros(
        rows_first + rows_second, columns + turn_first.shape[2] * free + turn_second.shape[1] * left
    )
    for head in range(heads):
        across = slice(head * inner**2, (head + 1) * inner**2)
        jacobian[head * inner * free : (head + 1) * inner * free, across] = by_first[head].reshape(
            inner * free, inner**2
        )
        down = slice(rows_first + head * inner * left, rows_first + (head + 1) * inner * left)
        jacobian[down, across] = by_second[head].reshape(inner * left, inner**2)
    turns = torch.einsum("har,nq->hanrq", turn_first, unit_first)
    jacobian[:rows_first, columns : columns + turn_first.shape[2] * free] = turns.reshape(
        rows_first, turn_first.shape[2] * free
    )
    turns = torch.einsum("hra,mq->hmarq", turn_second, unit_second)
    jacobian[rows_first:, columns + turn_first.shape[2] * free :] = turns.reshape(
        rows_second, turn_second.shape[1] * left
    )
    return jacobian


def _step(jacobian: Tensor, normal: Tensor, value: Tensor, shift: float) -> Tensor:
    shifted = normal.clone()
    shifted.diagonal().add_(shift + 1e-300)
    wide = len(jacobian) <= jacobian.shape[1]
    factor, failed = torch.linalg.cholesky_ex(shifted)
    if failed:
        return -torch.linalg.lstsq(jacobian, value[:, None], driver="gelsd").solution[:, 0]
    right = value if wide else jacobian.T @ value
    solved = torch.cholesky_solve(right[:, None], factor)[:, 0]
    return -(jacobian.T @ solved) if wide else -solved


def _moved(gauges: Tensor, kept: Tensor, lost: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    count = gauges.numel()
    rest, other = _rest(kept), _rest(lost)
    turn = step[count : count + rest.shape[1] * kept.shape[1]].view(rest.shape[1], kept.shape[1])
    spin = step[count + turn.numel() :].view(other.shape[1], lost.shape[1])
    return (
        gauges + step[:count].view_as(gauges),
        torch.linalg.qr(kept + rest @ turn).Q,
        torch.linalg.qr(lost + other @ spin).Q,
    )


def _rest(columns: Tensor) -> Tensor:
    """Orthonormal basis of what orthonormal columns leave out."""
    return torch.linalg.svd(columns).U[:, columns.shape[1] :]


def _from_gauges(heads: Sequence[NarrowMatch], problem: _Problem, gauges: Tensor, start: int) -> Shared:
    values = torch.linalg.svdvals(gauges)
    if not bool((values[:, -1] * LARGEST_CONDITION > values[:, 0]).all()):
        return _adapters(
            heads, problem.ranks, (0 * problem.first).flatten(0, 1), _side_by_side(0 * problem.second), start
        )
    return _adapters(heads, problem.ranks, *problem.changes(gauges), start)


def _alternating(heads: Sequence[NarrowMatch], problem: _Problem) -> Shared:
    """The best change of one stacked factor for the other, in turn: never worse than no adapters."""
    wanted = torch.stack([match.wanted for match in heads])
    first, second = 0 * problem.first, 0 * problem.second
    least = math.inf
    for _ in range(SWEEPS):
        first = _best_change(problem.second + second, problem.first, wanted, problem.ranks[0])
        second = _best_change((problem.first + first).mT, problem.second.mT, wanted.mT, problem.ranks[1]).mT
        error = float((wanted - (problem.second + second) @ (problem.first + first)).norm())
        if not error < (1 - 1e-3) * least:
            break
        least = error
    return _adapters(heads, problem.ranks, first.flatten(0, 1), _side_by_side(second), 0)


def _best_change(outer: Tensor, inner: Tensor, wanted: Tensor, rank: int) -> Tensor:
    """``D_h``, of rank at most ``rank`` when stacked, with all ``outer_h (inner_h + D_h)`` nearest to ``wanted_h``."""
    left, values, right = torch.linalg.svd(outer, full_matrices=False)
    kept = (values > 1e-10 * values.amax().clamp(min=1e-300))[..., None]
    goal = torch.where(kept, left.mT @ (wanted - outer @ inner), 0.0)
    b, a = truncate(goal.flatten(0, 1), rank)
    change = (b @ a).view_as(goal)
    return right.mT @ torch.where(kept, change / values[..., None].clamp(min=1e-300), 0.0)


def _side_by_side(second: Tensor) -> Tensor:
    return second.transpose(0, 1).flatten(1)


def _adapters(
    heads: Sequence[NarrowMatch], ranks: tuple[int, int], first: Tensor, second: Tensor, start: int
) -> Shared:
    """From changes of both stacked factors, as their ends see them."""
    count, inner = len(heads), heads[0].inner
    out, shared = truncate(first, ranks[0])
    spread, own = truncate(second, ranks[1])
    first_out = out.view(count, inner, -1)
    first_in = through(heads[0].right.T, shared.T).T
    second_out = through(heads[0].left, spread)
    second_in = own.view(len(own), count, inner).transpose(0, 1)
    worst = 0.0
    for index, match in enumerate(heads):
        adapted = match.left @ (match.second + second_out @ second_in[index])
        adapted = adapted @ (match.first + first_out[index] @ first_in) @ match.right
        size = float(match.wanted.norm()) or float(match.error.norm())
        worst = max(worst, float((adapted - match.wanted).norm()) / max(size, 1e-300))
    return Shared(first_in, first_out, second_in, second_out, worst, start)


def _score(found: Shared) -> float:
    sizes = [
        float(torch.linalg.matrix_norm(b @ a, 2)) if a.numel() else 0.0
        for b, a in (
            (found.first_out.flatten(0, 1), found.first_in),
            (found.second_out, _side_by_side(found.second_in)),
        )
    ]
    value = (found.residual + torch.finfo(torch.float64).eps) * (1 + max(sizes))
    return value if math.isfinite(value) else math.inf
