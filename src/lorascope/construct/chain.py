"""Adapters for one matched product: which construction, and what stands in the way where none is exact."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..linalg import product, tolerance, truncate
from ..shapes import Float
from ..theory import Match
from .factors import Factors, balance
from .flag import adapted_from_flag, two_sided_flag
from .path import correct, orthogonal_path, polish, share, shrink
from .quotient import solve_in_quotient
from .schur import schur
from .singular import solve_singular
from .tangent import DENSE_WIDTH

__all__ = ["Correction", "Solution", "correction_of", "solve_match"]

# A solution is taken without looking further when it is exact to about working precision and its adapters are no
# larger than the frozen weights.
EXACT = 1e-13
# Beyond this width the path costs minutes; a two-factor product is then left to the Schur construction if that is good.
PATH_WIDTH = 192
GOOD = 1e-11
# (scale of the orthogonal problem, residual kept on the way): restarts until one path arrives
LADDER = ((1.0, 1e-5), (1.25, 1e-6), (0.85, 1e-6), (1.5, 1e-7))


@dataclass(frozen=True)
class Correction:
    """What is added to the frozen product: ``outputs @ inputs``, of rank at most the ranks' sum.

    Attributes:
        outputs: (width, r).
        inputs: (r, width), of full row rank.
        closed: whether the correction is the whole error up to rounding.
        left_out: spectral norm of the part of the error that is not corrected (in the match's own coordinates).
    """

    outputs: Float[Tensor, "width r"]
    inputs: Float[Tensor, "r width"]
    closed: bool
    left_out: float


@dataclass(frozen=True)
class Solution:
    """Adapters of one match.

    Attributes:
        factors: one pair a factor of the product.
        method: the construction that gave them.
        residual: relative Frobenius distance of the adapted product from its goal (frozen product + correction).
        conditions: what limits exactness, in words and numbers.
    """

    factors: Factors
    method: str
    residual: float
    conditions: tuple[str, ...] = ()


def correction_of(match: Match, total: int) -> Correction:
    """The best correction of rank at most ``total`` for a match, seen from inside its two ends."""
    closed = total >= match.gap.rank
    rank = match.gap.rank if closed else total
    error = match.error
    if not closed and match.unit_left is not None:
        error = torch.linalg.solve(match.unit_left, error)
    if not closed and match.unit_right is not None:
        error = torch.linalg.solve(match.unit_right, error, left=False)
    outputs, inputs = truncate(error, rank)
    if not closed and match.unit_left is not None:
        outputs = match.unit_left @ outputs
    if not closed and match.unit_right is not None:
        inputs = inputs @ match.unit_right
    left_out = float(torch.linalg.matrix_norm(match.error - outputs @ inputs, 2)) if error.numel() else 0.0
    return Correction(_through(match.left, outputs), _through(match.right.T, inputs.T).T, closed, left_out)


def _through(end: Tensor, columns: Tensor) -> Tensor:
    """Least-norm ``X`` with ``end @ X = columns``."""
    rows = end.shape[0]
    if torch.equal(end, torch.eye(rows, end.shape[1], dtype=end.dtype, device=end.device)):
        return torch.nn.functional.pad(columns, (0, 0, 0, end.shape[1] - rows))
    return torch.linalg.pinv(end) @ columns if rows != end.shape[1] else _solve(end, columns)


def _solve(end: Tensor, columns: Tensor) -> Tensor:
    solution, failed = torch.linalg.solve_ex(end, columns)
    return torch.linalg.pinv(end) @ columns if failed else solution


def solve_match(match: Match, ranks: tuple[int, ...], deadline: float = math.inf) -> Solution:
    """Adapters of rank at most ``ranks`` that bring the product as near to what is wanted as these ranks allow.

    Non-singular factors: the error that remains is exactly the tail of the singular values beyond ``sum(ranks)``,
    found by the Schur construction or, where that needs large adapters, by the orthogonal path. Singular factors:
    see :mod:`.singular`.

    Source: Zeng & Lee 2024, Lemma 1, without its condition on the partial sums.
    """
    width = match.weights.shape[-1]
    correction = correction_of(match, sum(ranks))
    rank = correction.inputs.shape[0]
    notes = () if correction.closed else (_gap_note(match, ranks, correction),)
    if rank == 0:
        return Solution(_zero(match.weights), "none", 0.0, notes)
    if len(ranks) == 1:
        return Solution(Factors((correction.outputs,), (correction.inputs,)), "direct", 0.0, notes)
    if _singular(match.weights):
        factors, method, note = solve_singular(match, ranks, correction.outputs, correction.inputs)
        goal = product(list(match.weights)) + correction.outputs @ correction.inputs
        return Solution(factors, method, _distance(match.weights, goal, factors), (*notes, *note))
    best: Solution | None = None
    for factors, method in _candidates(match.weights, correction, ranks, deadline):
        goal = product(list(match.weights)) + correction.outputs @ correction.inputs
        found = Solution(factors, method, _distance(match.weights, goal, factors), notes)
        if best is None or _score(found) < _score(best):
            best = found
        if _satisfied(best, match.weights, width, len(ranks)):
            break
    assert best is not None
    return best


def _candidates(
    weights: Tensor, correction: Correction, ranks: tuple[int, ...], deadline: float
) -> Iterator[tuple[Factors, str]]:
    outputs, inputs = correction.outputs, correction.inputs
    rank = inputs.shape[0]
    yield schur(weights, outputs, inputs, share(rank, ranks)), "schur"
    for stretch, accuracy in LADDER:

        def follow(chain: Tensor, goal: Tensor, stretch: float = stretch, accuracy: float = accuracy) -> Factors:
            factors, _ = orthogonal_path(chain, goal, ranks, stretch=stretch, accuracy=accuracy, deadline=deadline)
            return factors

        factors = solve_in_quotient(weights, outputs, inputs, follow)
        yield _smaller(weights, outputs, inputs, factors, accuracy), "orthogonal path"
    if rank == weights.shape[-1]:
        goal = product(list(weights)) + outputs @ inputs
        parts = share(rank, ranks)
        adapted = adapted_from_flag(weights, goal, two_sided_flag(weights, goal, parts), parts)
        yield _from_differences(adapted - weights, parts), "two-sided flag"


def _smaller(weights: Tensor, outputs: Tensor, inputs: Tensor, factors: Factors, accuracy: float) -> Factors:
    """Smaller adapters for the same correction, where the quotient left room for them and width allows dense steps."""
    width, rank = weights.shape[-1], inputs.shape[0]
    if rank == width or width > DENSE_WIDTH:
        return factors
    goal = product(list(weights)) + outputs @ inputs
    left, right = balance(*factors.stacked(max(len(part) for part in factors.right)))
    left, right, _ = shrink(weights, goal, left, right, accuracy / 100, count=15, pace=0.3, least_gain=0.01)
    left, right = correct(weights, goal, left, right, 1e-13)
    return Factors.trimmed(*polish(weights, goal, left, right))


def _satisfied(solution: Solution, weights: Tensor, width: int, depth: int) -> bool:
    frozen = float(torch.linalg.matrix_norm(weights, 2).max())
    if solution.method != "schur":
        return solution.residual < 1e-9
    small = solution.residual < EXACT and solution.factors.norm() <= frozen
    return small or (depth == 2 and width > PATH_WIDTH and solution.residual < GOOD)


def _score(solution: Solution) -> float:
    """What rounding makes of a solution: its residual, amplified by its largest adapter."""
    value = (solution.residual + torch.finfo(torch.float64).eps) * (1 + solution.factors.norm())
    return value if math.isfinite(value) else math.inf


def _distance(weights: Tensor, goal: Tensor, factors: Factors) -> float:
    scale = goal.norm().clamp(min=torch.finfo(goal.dtype).tiny)
    return float((product(factors.adapted(weights)) - goal).norm() / scale)


def _singular(weights: Tensor) -> bool:
    values = torch.linalg.svdvals(weights)
    return bool((values[:, -1] <= tolerance(weights.shape[-1]) * values[:, 0]).any())


def _zero(weights: Tensor) -> Factors:
    width = weights.shape[-1]
    return Factors(
        tuple(weights.new_zeros(width, 0) for _ in weights), tuple(weights.new_zeros(0, width) for _ in weights)
    )


def _from_differences(differences: Tensor, parts: tuple[int, ...]) -> Factors:
    pairs = [truncate(difference, part) for difference, part in zip(differences, parts, strict=True)]
    return Factors(tuple(left for left, _ in pairs), tuple(right for _, right in pairs))


def _gap_note(match: Match, ranks: tuple[int, ...], correction: Correction) -> str:
    place = match.names[0] if len(match.names) == 1 else f"{match.names[0]} to {match.names[-1]}"
    head = "" if match.head is None else f", head {match.head}"
    return (
        f"rank too small for {place}{head}: gap {match.gap.rank}, ranks add up to {sum(ranks)}; "
        f"spectral error {correction.left_out:.3g} remains"
    )
