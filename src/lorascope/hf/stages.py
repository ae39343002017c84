"""From the differences to the factors that are written: truncated, given their ranks, settled."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .allocate import allocate, allocate_for_error
from .budget import Budget, rank_for_error, sides
from .calibration import Calibration
from .choose import Choice
from .factors import Factors, cut, factorise, settled
from .head_factors import fit_heads
from .pairs import Models, Pair
from .profiles import MAX_RANKS, Profile
from .ranks import matrix_rows
from .spread import spread
from .work import Where

__all__ = ["truncated"]

Progress = Callable[[float, str], None]
SPREAD = 4
"""A matrix may get up to this many times the uniform rank."""
MOST = MAX_RANKS[-1]
"""Largest rank that is tried where only an error was asked for."""


def truncated(
    models: Models,
    choice: Choice,
    budget: Budget,
    profile: Profile,
    where: Where,
    calibration: Calibration | None,
    progress: Progress,
) -> list[Factors]:
    """Factors of every matrix within a budget; what an earlier run left is taken up.

    Without a calibration all matrices have one rank. With it, the truncations are the best under its weights, and the
    ranks go where they do most for their entries; matrices that it does not weigh keep the uniform rank. Then values
    and outputs of each attention are fitted to their heads' products, unless an error was asked for of each difference.

    Args:
        models: base and tuned.
        choice: what is carried.
        budget: how much.
        profile: who will load it.
        where: the work is done and kept.
        calibration: weights, or None.
        progress: called with the share done and a few words.

    Raises:
        SpecError: a budget that cannot be met.
    """
    pairs = choice.factors

    def part(share: float, what: str) -> None:
        progress(0.8 * share, what)

    if calibration is None:
        rank = _uniform(pairs, budget)
        found = list(_factors(models, pairs, [rank] * len(pairs), where, None, part))
        short = [factors.rank == rank < min(pair.shape[-2:]) for pair, factors in zip(pairs, found, strict=True)]
    else:
        found, short = _weighted(models, choice, budget, profile, where, calibration, part)
    if budget.max_error is not None:
        return found
    return fit_heads(
        models, pairs, found, short, where.work, calibration, lambda share, what: progress(0.8 + 0.2 * share, what)
    )


def _weighted(
    models: Models,
    choice: Choice,
    budget: Budget,
    profile: Profile,
    where: Where,
    calibration: Calibration,
    progress: Progress,
) -> tuple[list[Factors], list[bool]]:
    """The best under weights, and which of them the budget cut short."""
    pairs = choice.factors
    both = [(pair, calibration.has(pair)) for pair in pairs]
    rest = [pair for pair, has in both if not has]
    uniform = _uniform(rest, budget) if budget.max_error is not None and rest else budget.uniform(pairs)
    caps = [_cap(budget, uniform, pair, profile) if has else uniform for pair, has in both]
    known = [
        _Known(each.values, each.total, each.weighted)
        for each in _factors(models, pairs, caps, where, calibration, lambda share, what: progress(0.8 * share, what))
    ]
    # a bias is carried beside factors only, so its matrix has rank 1 at least
    ranks = _allocated(pairs, known, budget, uniform, [int(pair.module in calibration.centred) for pair in pairs])
    made: list[Factors] = []
    for index, (pair, rank) in enumerate(zip(pairs, ranks, strict=True)):
        progress(0.8 + 0.2 * index / len(pairs), pair.name)
        kept = where.work.load(index, "settled")
        if kept is None:
            whole = where.work.load(index)
            assert whole is not None
            kept = cut(whole, rank)
            if kept.weighted:
                kept = settled(pair, kept, calibration.mean(pair))
            where.work.save(index, kept, "settled")
        made.append(kept)
    short = [rank < len(each.values) or rank == cap < min(pair.shape[-2:])
             for pair, each, rank, cap in zip(pairs, known, ranks, caps, strict=True)]  # fmt: skip
    return made, short


@dataclass(frozen=True)
class _Known:
    """What is kept in memory of factors whose rank is not known yet."""

    values: Tensor
    total: float
    weighted: bool


def _uniform(pairs: Sequence[Pair], budget: Budget) -> int:
    if budget.max_error is None:
        return budget.uniform(pairs)
    generator = torch.Generator().manual_seed(0)
    return rank_for_error([row.spectrum for pair in pairs for row in matrix_rows(pair, generator)], budget.max_error)


def _cap(budget: Budget, uniform: int, pair: Pair, profile: Profile) -> int:
    if budget.max_error is not None:
        return min(MOST, *pair.shape)
    # nothing was said of the size: as many as the default allows each
    most = uniform if budget.entries([pair]) is None else min(SPREAD * uniform, *pair.shape)
    return min(most, MAX_RANKS[-1]) if profile == "vllm" else most


def _factors(
    models: Models,
    pairs: Sequence[Pair],
    ranks: Sequence[int],
    where: Where,
    calibration: Calibration | None,
    progress: Progress,
) -> Iterator[Factors]:
    """One by one, in order; with an executor all that are missing first."""
    sizes = [pair.entries for pair in pairs]
    work, total, done = where.work, sum(sizes), 0
    if where.executor is not None:
        missing = {
            index: both for index, both in enumerate(zip(pairs, ranks, strict=True)) if not work.path(index).is_file()
        }
        for index, factors in spread(where.executor, models, missing, calibration, where.device):
            work.save(index, factors)
            done += sizes[index]
            progress(done / total, pairs[index].name)
    for index, (pair, rank) in enumerate(zip(pairs, ranks, strict=True)):
        kept = work.load(index)
        if kept is None:
            progress(done / total, pair.name)
            kept = factorise(pair, rank, where.device, None if calibration is None else calibration.weights(pair))
            work.save(index, kept)
        done += sizes[index]
        yield kept


def _allocated(
    pairs: Sequence[Pair], found: Sequence[_Known], budget: Budget, uniform: int, least: Sequence[int]
) -> list[int]:
    """Ranks of all; those without weights keep theirs, and pay for them at the uniform rank."""
    ranks = [len(known.values) for known in found]
    open_ = [index for index, known in enumerate(found) if known.weighted]
    values = [found[index].values for index in open_]
    costs = [sides(pairs[index]) for index in open_]
    entries = budget.entries(pairs)
    if budget.max_error is not None:
        chosen = allocate_for_error(values, [found[index].total for index in open_], costs, budget.max_error)
    elif entries is not None:
        spent = uniform * sum(sides(pair) for pair, known in zip(pairs, found, strict=True) if not known.weighted)
        # with nothing above rounding, factors that are zero
        spent += sum(sum(pairs[index].shape) for index in open_ if least[index] and not len(found[index].values))
        chosen = allocate(values, costs, entries - spent, [least[index] for index in open_])
    else:
        return ranks
    for index, rank in zip(open_, chosen, strict=True):
        ranks[index] = rank
    return ranks
