"""From the differences to the factors that are written: truncated, given their ranks, settled."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .allocate import allocate, allocate_for_error
from .budget import Budget, rank_for_error, sides
from .calibration import Calibration
from .choose import Choice
from .factors import Factors, cut, factorise, settled
from .pairs import Models, Pair
from .profiles import MAX_RANKS, Profile
from .ranks import matrix_rows
from .refine import refine
from .style import Style
from .work import Work
from .write import write_files

__all__ = ["distilled", "truncated"]

Progress = Callable[[float, str], None]
SPREAD = 4
"""A matrix may get up to this many times the uniform rank."""
MOST = MAX_RANKS[-1]
"""Largest rank that is tried where only an error was asked for."""


def truncated(
    choice: Choice,
    budget: Budget,
    profile: Profile,
    work: Work,
    calibration: Calibration | None,
    device: str,
    progress: Progress,
) -> list[Factors]:
    """Factors of every matrix within a budget; what an earlier run left is taken up.

    Without a calibration all matrices have one rank. With it, the truncations are the best under its weights, and the
    ranks go where they do most for their entries; matrices that it does not weigh keep the uniform rank.

    Args:
        choice: what is carried.
        budget: how much.
        profile: who will load it.
        work: where the factors are kept.
        calibration: weights, or None.
        device: where the products run.
        progress: called with the share done and a few words.

    Raises:
        SpecError: a budget that cannot be met.
    """
    pairs = choice.factors
    if calibration is None:
        most = [_uniform(pairs, budget)] * len(pairs)
        return list(_factors(pairs, most, work, None, device, progress))
    weighed = [calibration.has(pair) for pair in pairs]
    rest = [pair for pair, known in zip(pairs, weighed, strict=True) if not known]
    uniform = _uniform(rest, budget) if budget.max_error is not None and rest else budget.uniform(pairs)
    caps = [
        _cap(budget, uniform, pair, profile) if known else uniform for pair, known in zip(pairs, weighed, strict=True)
    ]
    most = _factors(pairs, caps, work, calibration, device, lambda share, what: progress(0.9 * share, what))
    known = [_Known(each.values, each.total, each.weighted) for each in most]
    # a bias is carried beside factors only, so its matrix has rank 1 at least
    ranks = _allocated(pairs, known, budget, uniform, [int(pair.module in calibration.centred) for pair in pairs])
    made: list[Factors] = []
    for index, (pair, rank) in enumerate(zip(pairs, ranks, strict=True)):
        progress(0.9 + 0.1 * index / len(pairs), pair.name)
        kept = work.load(index, "settled")
        if kept is None:
            whole = work.load(index)
            assert whole is not None
            kept = cut(whole, rank)
            if kept.weighted:
                kept = settled(pair, kept, calibration.mean(pair))
            work.save(index, kept, "settled")
        made.append(kept)
    return made


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
    pairs: Sequence[Pair],
    ranks: Sequence[int],
    work: Work,
    calibration: Calibration | None,
    device: str,
    progress: Progress,
) -> Iterator[Factors]:
    total = sum(torch.Size(pair.shape).numel() for pair in pairs)
    done = 0
    for index, (pair, rank) in enumerate(zip(pairs, ranks, strict=True)):
        progress(done / total, pair.name)
        kept = work.load(index)
        if kept is None:
            kept = factorise(pair, rank, device, None if calibration is None else calibration.weights(pair))
            work.save(index, kept)
        yield kept
        done += torch.Size(pair.shape).numel()


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
        chosen = allocate(values, costs, entries - spent, [least[index] for index in open_])
    else:
        return ranks
    for index, rank in zip(open_, chosen, strict=True):
        ranks[index] = rank
    return ranks


def distilled(
    models: Models, choice: Choice, found: Sequence[Factors], work: Work, batches: Sequence[dict[str, Tensor]],
    steps: int, device: str, progress: Progress,
) -> tuple[list[Factors], str]:  # fmt: skip
    """The factors trained against the tuned model, their residuals measured; and what that came to, in words."""
    kept = [work.load(index, "refined") for index in range(len(found))]
    note = work.folder / "refined.txt"
    if note.is_file():
        return [factors for factors in kept if factors is not None], note.read_text()
    start = work.folder / "start"
    largest = max((factors.rank for factors in found), default=1)
    write_files(start, models, choice, found, Style("peft", torch.float32, "start", max(largest, 1)))
    refined = refine(models, choice, found, start, batches, steps, device, progress)
    made: list[Factors] = []
    for index, (pair, factors) in enumerate(zip(choice.factors, refined.factors, strict=True)):
        measured = replace(settled(pair, factors, None), shift=factors.shift)
        work.save(index, measured, "refined")
        made.append(measured)
    told = f"{refined.steps} steps of distillation took their KL from {refined.before:.4g} to {refined.after:.4g}."
    note.write_text(told)
    return made, told
