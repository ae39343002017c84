"""In which order rows are trained on: batches of like lengths, all steps of a run laid out before the first."""

from collections.abc import Sequence

import torch

from ...errors import SpecError

__all__ = ["batched_order"]

POOL = 50  # batches that are sorted by length together


def batched_order(lengths: Sequence[int], batch: int, steps: int, generator: torch.Generator) -> list[int]:
    """Row numbers, ``batch`` for each step.

    Each pass over the rows is shuffled, cut into pools of 50 batches, sorted by length within each, and the batches are
    shuffled again; rows that fill no batch of a pass are left to the next. Since the whole order is known before the
    first step, a run that is resumed meets the same rows in it as one that was not.

    Args:
        lengths: tokens of each row.
        batch: rows a step; where there are fewer rows, all of them, some twice.
        steps: how many.
        generator: of the shuffles.

    Returns:
        ``batch * steps`` row numbers.

    Raises:
        SpecError: no rows.

    Cost O(rows log(batch)) a pass.

    >>> order = batched_order([3, 9, 3, 9], 2, 4, torch.Generator().manual_seed(0))
    >>> sorted(sorted(order[start:start + 2]) for start in (0, 2, 4, 6))
    [[0, 2], [0, 2], [1, 3], [1, 3]]
    """
    if not lengths:
        raise SpecError("training takes at least 1 row, got none; add rows")
    order: list[int] = []
    while len(order) < batch * steps:
        order += _one_pass(lengths, batch, generator)
    return order[: batch * steps]


def _one_pass(lengths: Sequence[int], batch: int, generator: torch.Generator) -> list[int]:
    rows = torch.randperm(len(lengths), generator=generator).tolist()
    while len(rows) < batch:
        rows += rows
    whole = rows[: len(rows) // batch * batch]
    batches: list[list[int]] = []
    for start in range(0, len(whole), POOL * batch):
        pool = sorted(whole[start : start + POOL * batch], key=lambda row: lengths[row])
        batches += [pool[at : at + batch] for at in range(0, len(pool), batch)]
    shuffled = torch.randperm(len(batches), generator=generator).tolist()
    return [row for index in shuffled for row in batches[index]]
