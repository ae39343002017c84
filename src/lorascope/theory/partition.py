"""Which consecutive frozen layers imitate which target layer."""

import functools
import math
from collections.abc import Callable

from ..errors import RankError, ShapeError

__all__ = ["Partition", "best_partition", "least_total", "search_partition", "spread", "uniform_partition"]

Partition = tuple[tuple[int, ...], ...]
"""One group of consecutive layer indices, counted from 0, for each target layer."""


def uniform_partition(depth: int, groups: int) -> Partition:
    """``P_i = {(i-1) M + 1, ..., i M}`` with ``M = floor(L / Lbar)``; the last group takes the remainder too.

    Args:
        depth: ``L``, frozen layers.
        groups: ``Lbar``, target layers.

    Raises:
        ShapeError: no group, or more groups than layers.

    Source: Zeng & Lee 2024, Section 3.2, counted from 0 here. Cost O(L).

    >>> uniform_partition(5, 2)
    ((0, 1), (2, 3, 4))
    """
    _check(depth, groups)
    size = depth // groups
    stops = [size * (group + 1) for group in range(groups - 1)] + [depth]
    return _partition(stops)


def best_partition(
    cost: Callable[[int, int, int], int], gap: Callable[[int, int, int], int], depth: int, groups: int
) -> tuple[int, Partition]:
    """``R* = min_P max_i cost_i(P_i)``, and among the partitions that attain it one of least ``sum_i gap_i(P_i)``.

    Args:
        cost: ``(i, start, stop)`` -> least uniform rank with which layers ``start..stop-1`` imitate target layer
            ``i``; for non-singular layers ``ceil(gap / (stop - start))``.
        gap: ``(i, start, stop)`` -> least total rank with which they do; ``rank(Wbar_i - W_stop ... W_{start+1})``.
        depth: ``L``, frozen layers.
        groups: ``Lbar``, target layers.

    Returns:
        ``R*`` and the partition. Both functions are called at most once for each triple that can occur.

    Raises:
        ShapeError: no group, or more groups than layers.

    Source: Zeng & Lee 2024, Theorem 6, allows any partition; the search is added here. Cost O(Lbar L^2) and the calls.

    >>> gaps = {(0, 0, 1): 4, (0, 0, 2): 4, (1, 1, 3): 1, (1, 2, 3): 1}
    >>> best_partition(lambda i, a, b: -(-gaps[i, a, b] // (b - a)), lambda *group: gaps[group], 3, 2)
    (2, ((0, 1), (2,)))
    """
    cost = functools.cache(cost)
    best, _ = search_partition(cost, max, depth, groups)
    _, partition = search_partition(
        lambda *group: gap(*group) if cost(*group) <= best else math.inf, lambda a, b: a + b, depth, groups
    )
    return int(best), partition


def least_total(
    gap: Callable[[int, int, int], int], depth: int, groups: int, cap: int | None = None
) -> tuple[int, Partition]:
    """``min_P sum_i gap_i(P_i)``, over the partitions with ``gap_i(P_i) <= cap |P_i|``.

    Args:
        gap: ``(i, start, stop)`` -> total rank with which layers ``start..stop-1`` imitate target layer ``i``.
        depth: ``L``, frozen layers.
        groups: ``Lbar``, target layers.
        cap: the largest rank of one adapter, ``None`` for no limit.

    Returns:
        The total (``2 D`` times it is the number of parameters) and a partition that attains it.

    Raises:
        ShapeError: no group, or more groups than layers.
        RankError: no partition keeps within the cap.

    Source: Zeng & Lee 2024, Theorem 6, allows any partition; the search is added here. Cost O(Lbar L^2) and the calls.

    >>> least_total(lambda i, start, stop: stop if i else 1, 3, 2)
    (4, ((0,), (1, 2)))
    """
    gap = functools.cache(gap)

    def allowed(group: int, start: int, stop: int) -> int | float:
        total = gap(group, start, stop)
        return total if cap is None or total <= cap * (stop - start) else math.inf

    total, partition = search_partition(allowed, lambda a, b: a + b, depth, groups)
    if math.isinf(total):
        needed, _ = search_partition(lambda i, a, b: -(-gap(i, a, b) // (b - a)), max, depth, groups)
        raise RankError(
            f"no partition of {depth} layers into {groups} keeps every rank <= {cap}; the least is {int(needed)}"
        )
    return int(total), partition


def spread(gap: int, size: int) -> tuple[int, ...]:
    """``R_1 + ... + R_size = gap`` with ranks that differ by at most 1, the larger ones first.

    Args:
        gap: total rank.
        size: number of layers.

    Raises:
        ShapeError: no layer.
        RankError: a negative total.

    >>> spread(5, 3)
    (2, 2, 1)
    """
    if size < 1:
        raise ShapeError(f"a total rank is spread over at least 1 layer, got {size}")
    if gap < 0:
        raise RankError(f"a total rank is at least 0, got {gap}")
    return tuple(gap // size + (layer < gap % size) for layer in range(size))


def search_partition(
    price: Callable[[int, int, int], float], join: Callable[[float, float], float], depth: int, groups: int
) -> tuple[float, Partition]:
    """``min_P join_i price_i(P_i)`` over the partitions of ``depth`` layers into ``groups``, by dynamic programming.

    Args:
        price: ``(i, start, stop)`` -> what it costs that layers ``start..stop-1`` imitate target layer ``i``; infinite
            where they must not.
        join: of the costs of two groups, such as ``max`` or a sum; monotone.
        depth: ``L``, frozen layers.
        groups: ``Lbar``, target layers.

    Raises:
        ShapeError: no group, or more groups than layers.
    """
    # best[stop]: least joined price of the groups so far on layers 0..stop-1, and where each of them stops
    _check(depth, groups)
    best: dict[int, tuple[int | float, tuple[int, ...]]] = {0: (0, ())}
    for group in range(groups):
        best = {
            stop: min(
                (join(value, price(group, start, stop)), (*stops, stop))
                for start, (value, stops) in best.items()
                if start < stop
            )
            for stop in (range(group + 1, depth - groups + group + 2) if group < groups - 1 else [depth])
        }
    value, stops = best[depth]
    return float(value), _partition(stops)


def _partition(stops: list[int] | tuple[int, ...]) -> Partition:
    return tuple(tuple(range(start, stop)) for start, stop in zip([0, *stops[:-1]], stops, strict=True))


def _check(depth: int, groups: int) -> None:
    if not 1 <= groups <= depth:
        raise ShapeError(f"{depth} frozen layers can imitate 1 to {depth} target layers, got {groups}")
