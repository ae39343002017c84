"""Ranks matrix by matrix: where the next direction does most for the entries it costs."""

import heapq
from collections.abc import Iterator, Sequence

from torch import Tensor

from ..errors import SpecError

__all__ = ["allocate", "allocate_for_error"]


def allocate(
    values: Sequence[Tensor], sides: Sequence[int], budget: int, least: Sequence[int] | None = None
) -> list[int]:
    """Ranks that keep the most energy for a number of entries, greedily.

    Directions are taken by ``sigma^2 / (out + inp)``, largest first, each while it still fits.

    Args:
        values: (k,) of each matrix, the singular values that may be kept, largest first, all in one unit.
        sides: entries that one direction of each matrix costs.
        budget: entries of all factors together.
        least: ranks that each has in any case, as far as it has values; default 0.

    Returns:
        The rank of each.

    Cost O(n log n) for n values.

    >>> import torch
    >>> allocate([torch.tensor([3.0, 2.0]), torch.tensor([2.5, 0.1])], [10, 10], 30)
    [2, 1]
    """
    given = [min(rank, len(found)) for rank, found in zip(least or [0] * len(values), values, strict=True)]
    ranks = [0] * len(values)
    left = budget - sum(rank * side for rank, side in zip(given, sides, strict=True))
    for index in _by_worth(values, sides):
        if ranks[index] < given[index]:
            ranks[index] += 1
        elif sides[index] <= left:
            ranks[index] += 1
            left -= sides[index]
    return ranks


def allocate_for_error(
    values: Sequence[Tensor], norms: Sequence[float], sides: Sequence[int], error: float
) -> list[int]:
    """The same, until what is left over is at most a share of everything.

    Args:
        values, sides: as ``allocate`` has them.
        norms: Frobenius norms of the matrices the values are of.
        error: relative, of all together.

    Raises:
        SpecError: what may be kept does not suffice.
    """
    ranks = [0] * len(values)
    total = sum(norm**2 for norm in norms)
    left, allowed = total, error**2 * total * (1 + 1e-9)
    for index in _by_worth(values, sides):
        if left <= allowed:
            return ranks
        left -= float(values[index][ranks[index]]) ** 2
        ranks[index] += 1
    if left > allowed:
        raise SpecError(
            f"--max-error must be at least {(left / total) ** 0.5:.3g}, got {error}: the rest is rounding of the "
            f"stored weights, or beyond the ranks that are tried; allow more"
        )
    return ranks


def _by_worth(values: Sequence[Tensor], sides: Sequence[int]) -> Iterator[int]:
    """Which matrix the next direction belongs to; the values of each come in their own order."""
    energies = [(found.double() ** 2).tolist() for found in values]
    waiting = [
        (-kept[0] / side, index, 0) for index, (kept, side) in enumerate(zip(energies, sides, strict=True)) if kept
    ]
    heapq.heapify(waiting)
    while waiting:
        _, index, place = heapq.heappop(waiting)
        yield index
        if place + 1 < len(energies[index]):
            heapq.heappush(waiting, (-energies[index][place + 1] / sides[index], index, place + 1))
