"""Adapters of two factors that meet in few dimensions: a gauge that keeps what can be kept, the rest by Schur form."""

import math
from collections.abc import Iterator
from time import monotonic

import torch
from torch import Tensor

from ..linalg import svd, truncate
from ..shapes import Float
from ..theory import Gauge, NarrowMatch
from .chain import Solution
from .correction import through
from .factors import Factors
from .path import share
from .schur import schur

__all__ = ["nearest_gauge", "solve_narrow"]

# References for the free part of the gauge: the nearest orthogonal map, then random ones.
STARTS = 4
GOOD = 1e-12
# Adapters up to this many frozen norms are not worth another start.
SMALL = 4.0
SWEEPS = 30


def solve_narrow(match: NarrowMatch, ranks: tuple[int, ...], deadline: float = math.inf) -> Solution:
    """Adapters of rank at most ``ranks`` for a product of small inner dimension; exact where the ranks allow.

    With ``G_2 b = a`` for every pair the second factor can keep and ``a^T G_1 = b^T`` for every pair of the first one,
    ``G_1 - G_2`` has the rank of the pairs' clash; ``G_2 G_1^{-1}`` then remains as a product of two d x d factors that
    start at the identity, which Lemma 1 (strengthened) splits at no loss. Below the threshold each factor in turn gets
    the best low-rank change for the other.

    Source: new; for d = D it is Zeng & Lee 2024, Lemma 1 with L = 2. Cost O(D^3).
    """
    capped = (min(ranks[0], match.inner), min(ranks[1], match.inner))
    if match.gap.rank == 0:
        nothing = match.first.new_zeros
        inner, (out, inp) = match.inner, (match.second.shape[0], match.first.shape[1])
        empty = Factors((nothing(inner, 0), nothing(out, 0)), (nothing(0, inp), nothing(0, inner)))
        return Solution(empty, "none", 0.0)
    if not match.closed_by(capped):
        return _alternating(match, capped)
    best: Solution | None = None
    size = max(float(torch.linalg.matrix_norm(factor, 2)) for factor in (match.first, match.second))
    for gauge, reference in _starts(match, capped):
        try:
            found = _exact(match, gauge, reference, capped)
        except torch.linalg.LinAlgError:
            continue
        if best is None or _score(found) < _score(best):
            best = found
        if best.residual < GOOD and (best.factors.norm() <= SMALL * size or monotonic() > deadline):
            break
    return _alternating(match, capped) if best is None else best


def nearest_gauge(
    first: Float[Tensor, "inner k"],
    second: Float[Tensor, "m inner"],
    first_goal: Float[Tensor, "inner k"],
    second_goal: Float[Tensor, "m inner"],
) -> Float[Tensor, "inner inner"]:
    """The orthogonal G for which ``G first_goal`` and ``second_goal G^T`` are nearest to the frozen factors."""
    scale = lambda *pair: 1 / max(float(pair[0].norm() * pair[1].norm()), 1e-300)  # noqa: E731
    match = first @ first_goal.T * scale(first, first_goal) + second.T @ second_goal * scale(second, second_goal)
    left, _, right = torch.linalg.svd(match)
    return left @ right


def _starts(match: NarrowMatch, ranks: tuple[int, int]) -> Iterator[tuple[Gauge, Tensor]]:
    """Which pairs to keep, and what the gauge should be near to where they leave it free.

    No pair at all where the ranks allow it, which is the best conditioned; then all pairs.
    """
    gauge, none = match.gauge, match.first.new_zeros(match.inner, 0)
    nearest = nearest_gauge(match.seen_first, match.seen_second, gauge.first_goal, gauge.second_goal)
    # rows that the goal lacks stand in pairs; without them the factors would be singular
    regular = gauge.first_goal.abs().amax(1).min() > 0 and gauge.second_goal.abs().amax(0).min() > 0
    if min(ranks) >= match.inner and bool(regular):
        yield Gauge(gauge.first_goal, gauge.second_goal, (none, none), (none, none), 0), nearest
    yield gauge, nearest
    generator = torch.Generator().manual_seed(0)
    for _ in range(STARTS if gauge.first_pairs[0].shape[1] + gauge.second_pairs[0].shape[1] else 0):
        draw = torch.randn(match.inner, match.inner, generator=generator, dtype=torch.float64)
        yield gauge, torch.linalg.qr(draw.to(match.first)).Q


def _by_schur(core: Tensor, rank: int, ranks: tuple[int, int]) -> list[Tensor]:
    """Two factors, changes of the identity of at most these ranks, whose product is ``core = I + rank``."""
    eye = torch.eye(len(core), dtype=core.dtype, device=core.device)
    outputs, inputs = truncate(core - eye, rank)
    weights = torch.stack([eye, eye])
    return schur(weights, outputs, inputs, share(len(inputs), ranks)).adapted(weights)


def _exact(match: NarrowMatch, gauge: Gauge, reference: Tensor, ranks: tuple[int, int]) -> Solution:
    (a, b), (kept, aim) = gauge.first_pairs, gauge.second_pairs  # a^T G_1 = b^T ; G_2 aim = kept
    rest = _complement(aim)
    free = reference @ rest
    free = free + torch.linalg.pinv(a.T) @ (b.T @ rest - a.T @ free)
    inward = torch.linalg.pinv(aim)
    outer = kept @ inward + free @ rest.T  # G_2
    step = torch.linalg.pinv(a.T) @ ((b.T @ aim - a.T @ kept) @ inward)
    inner = outer + step  # G_1
    core = torch.linalg.solve(inner, outer, left=False)  # G_2 G_1^{-1}
    left_over = (ranks[0] - match.inner + a.shape[1], ranks[1] - match.inner + kept.shape[1])
    first_turn = second_turn = torch.eye(match.inner, dtype=core.dtype, device=core.device)
    if gauge.clash:
        first_turn, second_turn = _by_schur(core, gauge.clash, left_over)
    new_first = first_turn @ inner @ gauge.first_goal
    new_second = torch.linalg.solve(outer, gauge.second_goal, left=False) @ second_turn
    return _solution(match, new_first - match.seen_first, new_second - match.seen_second, ranks, "gauge")


def _solution(match: NarrowMatch, first: Tensor, second: Tensor, ranks: tuple[int, int], method: str) -> Solution:
    """From changes of both factors as seen from the ends to adapters of the factors themselves."""
    b1, a1 = truncate(first, ranks[0])
    b2, a2 = truncate(second, ranks[1])
    factors = Factors((b1, through(match.left, b2)), (through(match.right.T, a1.T).T, a2))
    adapted = (match.first + factors.left[0] @ factors.right[0], match.second + factors.left[1] @ factors.right[1])
    missed = match.left @ adapted[1] @ adapted[0] @ match.right - match.wanted
    size = float(match.wanted.norm()) or float(match.error.norm())
    return Solution(factors, method, float(missed.norm()) / max(size, 1e-300))


def _alternating(match: NarrowMatch, ranks: tuple[int, int]) -> Solution:
    """Below the threshold: the best low-rank change of one factor for the other, in turn, from either side."""
    best, least = (torch.zeros_like(match.seen_first), torch.zeros_like(match.seen_second)), float(match.error.norm())
    for order in ((0, 1), (1, 0)):
        changes = [torch.zeros_like(match.seen_first), torch.zeros_like(match.seen_second)]
        for _ in range(SWEEPS):
            for side in order:
                if side == 0:
                    changes[0] = _best_change(match.seen_second + changes[1], match.seen_first, match.wanted, ranks[0])
                else:
                    other = (match.seen_first + changes[0]).T
                    changes[1] = _best_change(other, match.seen_second.T, match.wanted.T, ranks[1]).T
            error = (match.seen_second + changes[1]) @ (match.seen_first + changes[0]) - match.wanted
            if not float(error.norm()) < (1 - 1e-4) * least:
                break
            least, best = float(error.norm()), (changes[0].clone(), changes[1].clone())
    found = _solution(match, *best, ranks, "alternating truncation")
    remains = match.left @ (match.second + found.factors.left[1] @ found.factors.right[1])
    remains = remains @ (match.first + found.factors.left[0] @ found.factors.right[0]) @ match.right - match.wanted
    return Solution(found.factors, found.method, 0.0, (_note(match, ranks, remains),))


def _best_change(outer: Tensor, inner: Tensor, wanted: Tensor, rank: int) -> Tensor:
    """``D`` of rank at most ``rank`` with ``outer (inner + D)`` nearest to ``wanted`` in Frobenius norm."""
    left, values, right = svd(outer)
    kept = values > 1e-10 * values.max().clamp(min=1e-300)
    left, values, right = left[:, kept], values[kept], right[kept]
    b, a = truncate(left.T @ (wanted - outer @ inner), rank)
    return right.T @ (b / values[:, None]) @ a


def _complement(columns: Tensor) -> Tensor:
    inner, count = columns.shape
    if count == 0:
        return torch.eye(inner, dtype=columns.dtype, device=columns.device)
    return torch.linalg.svd(columns).U[:, count:]


def _score(solution: Solution) -> float:
    value = (solution.residual + torch.finfo(torch.float64).eps) * (1 + solution.factors.norm())
    return value if math.isfinite(value) else math.inf


def _note(match: NarrowMatch, ranks: tuple[int, int], remains: Tensor) -> str:
    head = "" if match.head is None else f", head {match.head}"
    needs = match.least_ranks
    return (
        f"rank too small for {match.names[0]} to {match.names[1]}{head}: gap {match.gap.rank}, inner dimension "
        f"{match.inner}; ranks {ranks[0]} and {ranks[1]}, required {needs[0]} and {needs[1]}; "
        f"a spectral error of {float(torch.linalg.matrix_norm(remains, 2)):.3g} remains"
    )
