"""Adapters for one matched product: which construction, and what stands in the way where none is exact."""

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic

import torch
from torch import Tensor

from ..linalg import product, tolerance, truncate
from ..theory import Match
from .correction import Correction, correction_of
from .factors import Factors, balance
from .flag import adapted_from_flag, two_sided_flag
from .path import correct, orthogonal_path, polish, share, shrink
from .quotient import solve_in_quotient
from .schur import schur
from .singular import solve_singular
from .tangent import DENSE_WIDTH

__all__ = ["Solution", "solve_match"]

# A solution is taken without looking further when it is exact to about working precision and its adapters are no
# larger than the frozen weights.
EXACT = 1e-13
# A two-factor product is left to the Schur construction at a residual of GOOD once time is up, and at GOOD_ENOUGH
# beyond a width at which the path costs minutes.
GOOD = 1e-11
GOOD_ENOUGH = 1e-9
PATH_WIDTH = 192
# Below the threshold: residual, and size of the adapters relative to the frozen weights, at which rank is given up.
SOUND = 1e-6
TOO_LARGE = 1e6
# (scale of the orthogonal problem, residual kept on the way): restarts until one path arrives. Shallow products are
# forgiving, and cheaper with a rough path.
LADDER = ((1.0, 1e-5), (1.25, 1e-6), (0.85, 1e-6), (1.5, 1e-7))
ROUGH = (1.0, 1e-3)
SHALLOW = 4
# Seconds after the deadline at which a path that has not arrived is left, where an exact solution is at stake;
# refinement, which has other candidates, passes less.
PATIENCE = 600


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


def solve_match(
    match: Match, ranks: tuple[int, ...], deadline: float = math.inf, patience: float = PATIENCE
) -> Solution:
    """Adapters of rank at most ``ranks`` that bring the product as near to what is wanted as these ranks allow.

    Non-singular factors: the error that remains is exactly the tail of the singular values beyond ``sum(ranks)``,
    found by the Schur construction or, where that needs large adapters, by the orthogonal path. Singular factors:
    see :mod:`.singular`. Adapters are made smaller until ``deadline`` (of :func:`time.monotonic`); a search that has
    found none goes on for ``patience`` seconds more.

    Source: Zeng & Lee 2024, Lemma 1, without its condition on the partial sums.
    """
    total = sum(ranks)
    correction = correction_of(match, total)
    notes: list[str] = [] if correction.closed else [_gap_note(match, ranks, correction)]
    while True:
        found = _solve_correction(match, correction, ranks, deadline, patience)
        if correction.closed or _sound(found, match.weights):
            break
        # adapters this large drown in rounding what the rank gains: correct less, and say so
        total //= 2
        notes[1:] = [f"ill-conditioned: more than rank {total} of the correction needs adapters too large to be of use"]
        correction = correction_of(match, total)
    return replace(found, conditions=(*notes, *found.conditions))


def _solve_correction(
    match: Match, correction: Correction, ranks: tuple[int, ...], deadline: float, patience: float
) -> Solution:
    weights, rank = match.weights, correction.inputs.shape[0]
    if rank == 0:
        return Solution(_zero(weights), "none", 0.0)
    if len(ranks) == 1:
        return Solution(Factors((correction.outputs,), (correction.inputs,)), "direct", 0.0)
    goal = product(list(weights)) + correction.outputs @ correction.inputs
    if _singular(weights):
        factors, method, notes = solve_singular(match, ranks, correction, deadline)
        return Solution(factors, method, _distance(weights, goal, factors), notes)
    best: Solution | None = None
    for factors, method in _candidates(weights, correction, ranks, deadline, patience):
        found = Solution(factors, method, _distance(weights, goal, factors))
        if best is None or _score(found) < _score(best):
            best = found
        if _satisfied(best, weights, weights.shape[-1], len(ranks)):
            break
        if best.residual < GOOD and len(ranks) == 2 and monotonic() > deadline:
            break
    assert best is not None
    return best


def _sound(solution: Solution, weights: Tensor) -> bool:
    """Whether rounding leaves something of what the adapters gain; singular weights have their own measure."""
    if solution.method == "none" or _singular(weights):
        return True
    frozen = float(torch.linalg.matrix_norm(weights, 2).max())
    return solution.residual < SOUND and solution.factors.norm() <= TOO_LARGE * frozen


def _candidates(
    weights: Tensor, correction: Correction, ranks: tuple[int, ...], deadline: float, patience: float
) -> Iterator[tuple[Factors, str]]:
    outputs, inputs = correction.outputs, correction.inputs
    rank = inputs.shape[0]
    yield schur(weights, outputs, inputs, share(rank, ranks)), "schur"
    goal = product(list(weights)) + outputs @ inputs
    if float(goal.norm()) <= tolerance(len(goal), float((outputs @ inputs).norm())):
        return  # a goal of zero has no orthogonal problem to start from, and the Schur form is then the identity
    give_up = deadline + patience if correction.closed else deadline
    for stretch, accuracy in (ROUGH, *LADDER) if len(ranks) <= SHALLOW else LADDER:
        if monotonic() > give_up:
            break

        def follow(chain: Tensor, aim: Tensor, stretch: float = stretch, accuracy: float = accuracy) -> Factors:
            capped = tuple(min(rank, len(aim)) for rank in ranks)  # the quotient may be smaller than a rank
            return orthogonal_path(
                chain, aim, capped, stretch=stretch, accuracy=accuracy, deadline=deadline, give_up=give_up
            )[0]

        with suppress(torch.linalg.LinAlgError):
            factors = solve_in_quotient(weights, outputs, inputs, follow)
            yield _smaller(weights, outputs, inputs, factors, accuracy), "orthogonal path"
    if rank == weights.shape[-1]:
        parts = share(rank, ranks)
        with suppress(torch.linalg.LinAlgError):
            adapted = adapted_from_flag(weights, goal, two_sided_flag(weights, goal, parts), parts)
            yield _from_differences(adapted - weights, parts), "two-sided flag"


def _smaller(weights: Tensor, outputs: Tensor, inputs: Tensor, factors: Factors, accuracy: float) -> Factors:
    """Smaller adapters for the same correction, where the quotient left room for them and width allows dense steps."""
    width, rank = weights.shape[-1], inputs.shape[0]
    if rank == width or width > DENSE_WIDTH:
        return factors
    goal = product(list(weights)) + outputs @ inputs
    left, right = balance(*factors.stacked(max(len(part) for part in factors.right)))
    left, right, _ = shrink(weights, goal, left, right, min(accuracy, 1e-5) / 100, count=15, pace=0.3, least_gain=0.01)
    left, right = correct(weights, goal, left, right, 1e-13)
    return Factors.trimmed(*polish(weights, goal, left, right))


def _satisfied(solution: Solution, weights: Tensor, width: int, depth: int) -> bool:
    frozen = float(torch.linalg.matrix_norm(weights, 2).max())
    if solution.method != "schur":
        return solution.residual < 1e-9
    small = solution.residual < EXACT and solution.factors.norm() <= frozen
    return small or (depth == 2 and width > PATH_WIDTH and solution.residual < GOOD_ENOUGH)


def _score(solution: Solution) -> float:
    """What rounding makes of a solution: its residual, amplified by its largest adapter."""
    value = (solution.residual + torch.finfo(torch.float64).eps) * (1 + solution.factors.norm())
    return value if math.isfinite(value) else math.inf


def _distance(weights: Tensor, goal: Tensor, factors: Factors) -> float:
    """Relative to the goal, or to what had to be taken away where the goal is zero up to rounding."""
    size, away = float(goal.norm()), float((goal - product(list(weights))).norm())
    scale = size if size > tolerance(len(goal), away) else away
    return float((product(factors.adapted(weights)) - goal).norm()) / scale


def _singular(weights: Tensor) -> bool:
    values = torch.linalg.svdvals(weights)
    return bool((values[:, -1] <= tolerance(weights.shape[-1]) * values[:, 0]).any())


def _zero(weights: Tensor) -> Factors:
    out, inp = weights.shape[-2:]
    return Factors(tuple(weights.new_zeros(out, 0) for _ in weights), tuple(weights.new_zeros(0, inp) for _ in weights))


def _from_differences(differences: Tensor, parts: tuple[int, ...]) -> Factors:
    pairs = [truncate(difference, part) for difference, part in zip(differences, parts, strict=True)]
    return Factors(tuple(left for left, _ in pairs), tuple(right for _, right in pairs))


def _gap_note(match: Match, ranks: tuple[int, ...], correction: Correction) -> str:
    place = match.names[0] if len(match.names) == 1 else f"{match.names[0]} to {match.names[-1]}"
    head = "" if match.head is None else f", head {match.head}"
    return (
        f"rank too small for {place}{head}: gap {match.gap.rank}, ranks add up to {sum(ranks)}; "
        f"a spectral error of at least {correction.left_out:.3g} remains"
    )
