"""From the differences to the factors that are written: truncated, given their ranks, settled."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import SpecError
from .allocate import allocate, allocate_for_error
from .both import bytes_of_both, load_both
from .budget import Budget, rank_for_error, sides
from .calibration import Calibration
from .choose import Choice
from .factors import Factors, cut, factorise, settled
from .gains import fit_gains
from .head_factors import fit_heads
from .pairs import Models, Pair
from .passes import Inputs
from .profiles import MAX_RANKS, Profile
from .ranks import matrix_rows
from .refine import refine
from .style import Style
from .work import Work
from .write import write_files

__all__ = ["joined", "truncated"]

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
    work: Work,
    calibration: Calibration | None,
    device: str,
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
        work: where the factors are kept.
        calibration: weights, or None.
        device: where the products run.
        progress: called with the share done and a few words.

    Raises:
        SpecError: a budget that cannot be met.
    """
    pairs = choice.factors

    def part(share: float, what: str) -> None:
        progress(0.8 * share, what)

    if calibration is None:
        rank = _uniform(pairs, budget)
        found = list(_factors(pairs, [rank] * len(pairs), work, None, device, part))
        short = [factors.rank == rank < min(pair.shape[-2:]) for pair, factors in zip(pairs, found, strict=True)]
    else:
        found, short = _weighted(choice, budget, profile, work, calibration, device, part)
    if budget.max_error is not None:
        return found
    return fit_heads(
        models, pairs, found, short, work, calibration, lambda share, what: progress(0.8 + 0.2 * share, what)
    )


def _weighted(
    choice: Choice,
    budget: Budget,
    profile: Profile,
    work: Work,
    calibration: Calibration,
    device: str,
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
        for each in _factors(pairs, caps, work, calibration, device, lambda share, what: progress(0.8 * share, what))
    ]
    # a bias is carried beside factors only, so its matrix has rank 1 at least
    ranks = _allocated(pairs, known, budget, uniform, [int(pair.module in calibration.centred) for pair in pairs])
    made: list[Factors] = []
    for index, (pair, rank) in enumerate(zip(pairs, ranks, strict=True)):
        progress(0.8 + 0.2 * index / len(pairs), pair.name)
        kept = work.load(index, "settled")
        if kept is None:
            whole = work.load(index)
            assert whole is not None
            kept = cut(whole, rank)
            if kept.weighted:
                kept = settled(pair, kept, calibration.mean(pair))
            work.save(index, kept, "settled")
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


def joined(
    models: Models, choice: Choice, found: Sequence[Factors], work: Work, calibration: Calibration,
    batches: Sequence[Inputs], steps: int, device: str, progress: Progress,
) -> tuple[list[Factors], str]:  # fmt: skip
    """The factors fitted together to what the tuned model says on texts, residuals measured; and how that went.

    Args:
        models: base and tuned.
        choice: what is carried.
        found: factors of each matrix by itself.
        work: where the result is kept.
        calibration: means of the inputs.
        batches: tokens.
        steps: of distillation, after the gains were fitted.
        device: where both models run.
        progress: called with the share done and a few words.

    Raises:
        SpecError: steps were asked for, but both models do not fit into the memory.
    """
    note = work.folder / "joined.txt"
    if note.is_file():
        kept = [work.load(index, "joined") for index in range(len(found))]
        return [factors for factors in kept if factors is not None], note.read_text()
    room = _room(models, device)
    if room and steps:
        raise SpecError(f"--refine needs {room}; leave it out, or name a --device that has the room")
    if room:
        return list(found), f"Gains were not fitted: {room}."
    start = work.folder / "start"
    largest = max((factors.rank for factors in found), default=1)
    write_files(start, models, choice, found, Style("peft", torch.float32, "start", max(largest, 1)))
    both = load_both(models, choice, start, batches, device)
    before = both.divergence()
    means = [calibration.mean(pair) for pair in choice.factors]
    part = 0.2 if steps else 1.0
    made = fit_gains(both, choice, found, means, lambda share, what: progress(part * share, what))
    fitted = both.divergence()
    told = f"Gains fitted to all directions together took their KL from {before:.4g} to {fitted:.4g}."
    if steps:
        trained = refine(both, choice, made, steps, lambda share, what: progress(0.2 + 0.8 * share, what))
        after = both.divergence()
        if after < fitted:
            made = trained
            told += f" {steps} steps of distillation took it to {after:.4g}."
        else:
            told += f" {steps} steps of distillation made it no smaller and were dropped."
    shifts = {pair.module: both.biases[pair.module].cpu() - pair.tuned() for pair in choice.biases}
    for index, (pair, factors) in enumerate(zip(choice.factors, made, strict=True)):
        shift = None if means[index] is None else shifts.get(pair.module)
        made[index] = replace(settled(pair, factors, None), shift=shift)
        work.save(index, made[index], "joined")
    note.write_text(told)
    return made, told


def _room(models: Models, device: str) -> str:
    """What both models lack in memory, in words; empty where they fit."""
    from psutil import virtual_memory  # noqa: PLC0415

    needed, free = bytes_of_both(models), virtual_memory().available
    if device != "cpu" or needed <= free:
        return ""
    return f"both models in memory, {needed / 1e9:.1f} GB in float32, where {free / 1e9:.1f} GB are free"
