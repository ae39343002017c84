import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorascope.errors import RankError
from lorascope.theory.partition import best_partition, least_total, spread, uniform_partition
from reference.partitions import all_partitions, assert_best, assert_least_total


@st.composite
def tables(draw):
    """Depth, groups, and a gap for every group on every interval it may take."""
    depth = draw(st.integers(1, 8))
    groups = draw(st.integers(1, depth))
    triples = [(i, a, b) for i in range(groups) for a in range(depth) for b in range(a + 1, depth + 1)]
    values = draw(st.lists(st.integers(0, 12), min_size=len(triples), max_size=len(triples)))
    return depth, groups, dict(zip(triples, values, strict=True))


@given(tables())
def test_best_partition_is_the_best_of_all(case):
    depth, groups, gaps = case
    gap = lambda *group: gaps[group]  # noqa: E731
    cost = lambda i, start, stop: -(-gaps[i, start, stop] // (stop - start))  # noqa: E731
    assert_best(*best_partition(cost, gap, depth, groups), cost, gap, depth, groups)


@given(tables(), st.one_of(st.none(), st.integers(0, 12)))
def test_least_total_is_the_least_of_all_within_the_cap(case, cap):
    depth, groups, gaps = case
    gap = lambda *group: gaps[group]  # noqa: E731
    cost = lambda i, start, stop: -(-gaps[i, start, stop] // (stop - start))  # noqa: E731
    least_cap, _ = best_partition(cost, gap, depth, groups)
    if cap is not None and cap < least_cap:
        with pytest.raises(RankError, match=f"the least is {least_cap}"):
            least_total(gap, depth, groups, cap)
    else:
        assert_least_total(*least_total(gap, depth, groups, cap), gap, depth, groups, cap)


def test_a_smaller_start_may_lose_in_the_end():
    # the prefix with the smaller maximum has the larger total; the last group's cost makes the maxima equal
    costs = {(0, 0, 1): 1, (0, 0, 2): 2, (1, 1, 3): 3, (1, 2, 3): 3}
    gaps = {(0, 0, 1): 10, (0, 0, 2): 3, (1, 1, 3): 3, (1, 2, 3): 3}
    assert best_partition(lambda *g: costs[g], lambda *g: gaps[g], 3, 2) == (3, ((0, 1), (2,)))


def test_functions_are_called_once_for_each_group_that_can_occur():
    calls = []
    best_partition(lambda *g: calls.append(g) or 1, lambda *_: 1, 6, 3)
    possible = {(i, g[0], g[-1] + 1) for p in all_partitions(6, 3) for i, g in enumerate(p)}
    assert len(calls) == len(set(calls))
    assert set(calls) == possible


@given(st.integers(1, 12), st.data())
def test_uniform_partition_covers_the_layers_in_order(depth, data):
    groups = data.draw(st.integers(1, depth))
    partition = uniform_partition(depth, groups)
    assert partition in all_partitions(depth, groups)
    assert [len(group) for group in partition[:-1]] == [depth // groups] * (groups - 1)


@given(st.integers(0, 40), st.integers(1, 12))
def test_spread_is_even_and_complete(gap, size):
    ranks = spread(gap, size)
    assert sum(ranks) == gap
    assert len(ranks) == size
    assert ranks == tuple(sorted(ranks, reverse=True))
    assert ranks[0] - ranks[-1] <= 1
