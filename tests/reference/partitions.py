"""Every way to cut a chain of layers into consecutive groups, one after another."""

from itertools import combinations


def all_partitions(depth, groups):
    for cuts in combinations(range(1, depth), groups - 1):
        ends = [0, *cuts, depth]
        yield tuple(tuple(range(ends[i], ends[i + 1])) for i in range(groups))


def total(function, partition, join=sum):
    return join([function(i, group[0], group[-1] + 1) for i, group in enumerate(partition)])


def assert_best(value, partition, cost, gap, depth, groups):
    """``partition`` has the least largest cost, which is ``value``, and then the least sum of gaps."""
    candidates = list(all_partitions(depth, groups))
    assert partition in candidates, f"{partition} is no partition of {depth} layers into {groups} groups"
    least = min(total(cost, candidate, max) for candidate in candidates)
    assert value == least == total(cost, partition, max), f"largest cost {value} claimed, {least} by enumeration"
    ties = [candidate for candidate in candidates if total(cost, candidate, max) == least]
    assert total(gap, partition) == min(total(gap, tie) for tie in ties), f"{partition} is beaten on the total"


def assert_least_total(value, partition, gap, depth, groups, cap=None):
    """``partition`` keeps within the cap and has the least sum of gaps among those that do, ``value``."""
    allowed = [
        candidate
        for candidate in all_partitions(depth, groups)
        if cap is None or all(gap(i, g[0], g[-1] + 1) <= cap * len(g) for i, g in enumerate(candidate))
    ]
    assert partition in allowed, f"{partition} is no partition within the cap"
    least = min(total(gap, candidate) for candidate in allowed)
    assert value == least == total(gap, partition), f"total {value} claimed, {least} by enumeration"
