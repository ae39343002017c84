"""Products of small inner dimension: what can be kept, what ranks they need, and that less is not enough."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorascope.theory import NarrowMatch
from reference.cases import seeds
from reference.variants import narrow, seeded


@settings(max_examples=60)
@given(seeds, st.integers(1, 9), st.data())
def test_generic_products_need_min_of_inner_and_half_the_width(seed, width, data):
    inner = data.draw(st.integers(1, width))
    match = narrow(seed, inner, width, width)
    assert match.gap.rank == min(2 * inner, width)
    assert match.least_cap == min(inner, -(-width // 2))
    assert sum(match.least_ranks) == max(min(2 * inner, width), 0)
    assert match.closed_by(match.least_ranks)
    assert match.closed_by((match.least_cap, match.least_cap))
    assert not match.closed_by((match.least_cap - 1,) * 2)


@settings(max_examples=60)
@given(seeds, st.integers(1, 7), st.integers(1, 8), st.integers(1, 8), st.data())
def test_ranks_obey_the_three_lower_bounds(seed, inner, m, k, data):
    """Sum at least the gap; each factor at least the directions its frozen one lacks; never above the inner one."""
    inner = min(inner, m, k)
    goal = data.draw(st.integers(0, inner))
    match = narrow(seed, inner, m, k, goal)
    first, second = match.least_ranks
    rows = torch.linalg.matrix_rank(torch.cat([match.seen_first, match.wanted]))
    columns = torch.linalg.matrix_rank(torch.cat([match.seen_second, match.wanted], dim=1))
    assert first >= int(rows) - inner
    assert second >= int(columns) - inner
    assert first + second >= match.gap.rank
    assert max(first, second) == match.least_cap <= inner


@settings(max_examples=40)
@given(seeds, st.integers(2, 7), st.data())
def test_every_pair_agrees_on_both_networks(seed, width, data):
    match = narrow(seed, data.draw(st.integers(1, width)), width, width)
    gauge = match.gauge
    a, b = gauge.first_pairs
    torch.testing.assert_close(a.T @ match.seen_first, b.T @ gauge.first_goal, atol=1e-9, rtol=1e-9)
    a, b = gauge.second_pairs
    torch.testing.assert_close(match.seen_second @ a, gauge.second_goal @ b, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(gauge.second_goal @ gauge.first_goal, match.wanted, atol=1e-9, rtol=1e-9)


@settings(max_examples=40)
@given(seeds, st.integers(2, 6), st.data())
def test_a_change_of_low_rank_in_one_factor_needs_just_that(seed, inner, data):
    change = data.draw(st.integers(0, inner))
    base = narrow(seed, inner, inner + 3, inner + 3)
    generator = seeded(seed + 1)
    delta = torch.randn(inner, change, generator=generator, dtype=torch.float64)
    delta = delta @ torch.randn(change, inner + 3, generator=generator, dtype=torch.float64)
    names, eye = base.names, torch.eye(inner + 3, dtype=torch.float64)
    match = NarrowMatch(names, base.first, base.second, eye, eye, base.first + delta, base.second)
    assert match.gap.rank == change
    assert sum(match.least_ranks) == change
    assert match.least_ranks[1] <= max(change - min(change, 3), 0)


def test_a_product_of_zero_needs_half_the_inner_dimension():
    match = narrow(0, 4, 6, 6, goal=0)
    assert (match.gap.rank, match.least_cap, match.least_ranks) == (4, 2, (2, 2))
    assert match.gauge.clash == 0


def test_equal_products_in_another_gauge_need_nothing():
    base = narrow(1, 3, 6, 6)
    turn = torch.randn(3, 3, generator=seeded(2), dtype=torch.float64)
    eye = torch.eye(6, dtype=torch.float64)
    goals = torch.linalg.solve(turn, base.first), base.second @ turn
    match = NarrowMatch(base.names, base.first, base.second, eye, eye, *goals)
    assert (match.gap.rank, match.least_cap, match.least_ranks) == (0, 0, (0, 0))
    assert match.closed_by((0, 0))


@pytest.mark.parametrize("side", ["first", "second"])
def test_a_singular_frozen_factor_keeps_less(side):
    base = narrow(3, 4, 6, 6)
    factors = {"first": base.first.clone(), "second": base.second.clone()}
    if side == "first":
        factors["first"][0] = 0
    else:
        factors["second"][:, 0] = 0
    match = NarrowMatch(
        base.names, factors["first"], factors["second"], base.left, base.right, base.goal_first, base.goal_second
    )
    assert match.gap.rank == 6
    assert match.least_cap >= 3
    assert match.closed_by((4, 4))
