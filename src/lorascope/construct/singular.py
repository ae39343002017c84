"""Adapters where frozen weights are singular: as far as the obstruction allows."""

import math
from collections.abc import Iterator
from time import monotonic

import torch
from torch import Tensor

from ..linalg import numerical_rank, product, truncate
from ..theory import Match
from .correction import Correction
from .factors import Factors, balance
from .path import correct, orthogonal_path, polish, share
from .quotient import solve_in_quotient
from .schur import schur

__all__ = ["solve_singular"]

LIFTS = (1.0, 0.3)
STARTS = 4
EXACT = 1e-11


def solve_singular(
    match: Match,
    ranks: tuple[int, ...],
    correction: Correction,
    deadline: float = math.inf,
) -> tuple[Factors, str, tuple[str, ...]]:
    """Best adapters found when some factor is singular, the construction's name, and the obstruction in words.

    A sub-chain of rank k gets at most rank ``k + sum of its ranks``, so the adapted product cannot have more. The
    correction is cut to what that allows; then the zero singular values are lifted, the lifted problem is solved as
    a regular one, and the lift is taken back along an exact path. Completing the weights first (part of the rank
    spent on making them regular, the rest on the Schur construction) is the alternative that never fails.
    """
    notes, room, least = _obstruction(match, ranks)
    least = max(least, correction.left_out)
    frozen = product(list(match.weights))
    goal = frozen + correction.outputs @ correction.inputs
    goals = [goal]
    if room < min(goal.shape):
        reachable = torch.matmul(*truncate(goal, room))
        goals.insert(0, frozen + torch.matmul(*truncate(reachable - frozen, sum(ranks))))
    generator = torch.Generator().manual_seed(0)
    best, best_error, method = None, float("inf"), ""
    for name, factors in _candidates(match.weights, goals, ranks, generator):
        seen = match.left @ product(factors.adapted(match.weights)) @ match.right
        error = float(torch.linalg.matrix_norm(match.wanted - seen, 2))
        if error < best_error:
            best, best_error, method = factors, error, name
        if best_error <= (1 + EXACT) * least + EXACT * float(match.wanted.norm()):
            break
        if monotonic() > deadline and (notes or not correction.closed):  # exactness is not given up
            break
    assert best is not None
    return best, method, notes


def _obstruction(match: Match, ranks: tuple[int, ...]) -> tuple[tuple[str, ...], int, float]:
    """The obstructions in words, the rank the adapted product can have, the spectral error that forces."""
    notes, room, least = [], match.weights.shape[-1], 0.0
    for asked in match.requirements:
        given = sum(ranks[asked.start : asked.stop])
        if given >= asked.rank:
            continue
        least = max(least, asked.least_error(given))
        room = min(room, numerical_rank(match.wanted).rank - asked.rank + given)
        place = " to ".join(dict.fromkeys((match.names[asked.start], match.names[asked.stop - 1])))
        notes.append(
            f"singular frozen weights {place}: {asked.reason}; adapters add up to rank {given}, required {asked.rank}; "
            f"no adapters get below spectral error {asked.least_error(given):.3g}"
        )
    return tuple(notes), max(room, 0), least


def _candidates(
    weights: Tensor, goals: list[Tensor], ranks: tuple[int, ...], generator: torch.Generator
) -> Iterator[tuple[str, Factors]]:
    for goal in goals:
        for lift in LIFTS:
            factors = _lifted(weights, goal, ranks, lift, generator)
            if factors is not None:
                yield "lifted path", factors
        factors = _completed(weights, goal, ranks)
        if factors is not None:
            yield "completion and schur", factors
            yield "completion, corrected", _descended(weights, goal, factors, ranks, generator, 0.1)
        wanted = float(goal.norm() / len(goal) ** 0.5) ** (1 / len(weights))
        size = max(wanted, float(weights.norm() / weights.numel() ** 0.5))
        for _ in range(STARTS):
            yield "descent", _descended(weights, goal, None, ranks, generator, size)


def _lifted(
    weights: Tensor, goal: Tensor, ranks: tuple[int, ...], lift: float, generator: torch.Generator
) -> Factors | None:
    """Solve with the zero singular values raised, then lower them again while the product stays exact."""
    left, values, right = torch.linalg.svd(weights)
    floor = lift * float(values.max() if float(values.max()) > 0 else goal.norm() ** (1 / len(weights)))
    zero = values <= 1e-10 * values.amax()
    change = goal - product(list(weights))

    def problem(time: float) -> tuple[Tensor, Tensor]:
        raised = (left * torch.where(zero, (1 - time) * floor, values)[:, None, :]) @ right
        return raised, product(list(raised)) + change

    outputs, inputs = truncate(change, min(sum(ranks), numerical_rank(change).rank))
    if outputs.shape[1] == 0:
        return Factors(tuple(goal[:, :0] for _ in ranks), tuple(goal[:0] for _ in ranks))
    try:
        factors = solve_in_quotient(
            problem(0.0)[0], outputs, inputs, lambda chain, aim: orthogonal_path(chain, aim, ranks)[0]
        )
    except torch.linalg.LinAlgError:
        return None
    b, a = _seeded(factors, ranks, generator, 1e-2)
    time, step = 0.0, 0.25
    while time < 1 and step > 1e-2:
        reach = min(1.0, time + step)
        trial = correct(*problem(reach), b, a, 1e-6, rounds=20)
        raised, aim = problem(reach)
        if float((product(list(raised + trial[0] @ trial[1])) - aim).norm()) <= 1e-6 * float(aim.norm()):
            b, a = balance(*trial)
            time, step = reach, 1.5 * step
        else:
            step /= 2
    b, a = correct(weights, goal, b, a, 1e-14, rounds=60)
    return Factors.trimmed(*polish(weights, goal, b, a))


def _completed(weights: Tensor, goal: Tensor, ranks: tuple[int, ...]) -> Factors | None:
    """Spend rank on making every weight regular, the rest on the Schur construction."""
    completed, spent = [], []
    for weight, rank in zip(weights, ranks, strict=True):
        left, values, right = torch.linalg.svd(weight)
        missing = int((values <= 1e-10 * max(float(values[0]), 1e-300)).sum())
        if missing > rank:
            return None
        size = float(values[values > 0].mean()) if float(values[0]) > 0 else 1.0
        b, a = left[:, len(values) - missing :] * size**0.5, size**0.5 * right[len(values) - missing :]
        completed.append(weight + b @ a)
        spent.append((b, a))
    regular = torch.stack(completed)
    left_over = tuple(rank - b.shape[1] for rank, (b, _) in zip(ranks, spent, strict=True))
    change = goal - product(completed)
    rank = min(sum(left_over), numerical_rank(change).rank)
    outputs, inputs = truncate(change, rank)
    rest = schur(regular, outputs, inputs, share(outputs.shape[1], left_over))
    return Factors(
        tuple(torch.cat([b, more], dim=1) for (b, _), more in zip(spent, rest.left, strict=True)),
        tuple(torch.cat([a, more]) for (_, a), more in zip(spent, rest.right, strict=True)),
    )


def _descended(
    weights: Tensor,
    goal: Tensor,
    factors: Factors | None,
    ranks: tuple[int, ...],
    generator: torch.Generator,
    scale: float,
) -> Factors:
    """Damped least squares on the product from given adapters, or from random ones: the nearest product around."""
    nothing = Factors(tuple(goal[:, :0] for _ in ranks), tuple(goal[:0] for _ in ranks))
    start = _seeded(factors or nothing, ranks, generator, scale)
    b, a = correct(weights, goal, *start, 1e-14, rounds=300, damping=1e-2)
    return Factors.trimmed(*polish(weights, goal, *balance(b, a)))


def _seeded(
    factors: Factors, ranks: tuple[int, ...], generator: torch.Generator, scale: float
) -> tuple[Tensor, Tensor]:
    """Padded stacks whose unused columns, up to each rank, hold small random numbers instead of zeros."""
    left, right = factors.stacked(max(ranks))
    width = left.shape[1]
    for layer, rank in enumerate(ranks):
        used = factors.right[layer].shape[0]
        noise = torch.randn(2, rank - used, width, generator=generator, dtype=left.dtype).to(left.device)
        left[layer, :, used:rank] = scale * noise[0].T / width**0.5
        right[layer, used:rank] = scale * noise[1] / width**0.5
    return left, right
