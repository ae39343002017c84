"""Theorem 6: any partition, any ranks that add up; the best partition needs no more than the uniform one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lorascope as ls
from lorascope import construct
from lorascope.errors import RankError
from lorascope.theory.fnn import corollary4_rank, theorem3_rank
from lorascope.theory.linear import difference_rank, least_error
from lorascope.theory.partition import best_partition, least_total, spread
from reference.cases import ball, integer_chains, matrices, network, seeds, tensors, worst_error
from reference.partitions import all_partitions, assert_best, assert_least_total
from reference.ranks import integer_product, integer_rank


def searches(frozen, target):
    """Gap and least uniform rank of target layer i on layers start..stop-1."""

    def gap(group, start, stop):
        return difference_rank(frozen[start:stop], [target[group]]).rank

    return lambda i, start, stop: -(-gap(i, start, stop) // (stop - start)), gap


@given(integer_chains(max_width=4))
def test_the_search_agrees_with_enumeration_over_exact_ranks(case):
    frozen, target = case
    exact = lambda i, a, b: integer_rank(target[i] - integer_product(frozen[a:b]))  # noqa: E731
    exact_cost = lambda i, a, b: -(-exact(i, a, b) // (b - a))  # noqa: E731
    cost, gap = searches(tensors(frozen), tensors(target))
    rank, partition = best_partition(cost, gap, len(frozen), len(target))
    assert_best(rank, partition, exact_cost, exact, len(frozen), len(target))
    assert rank <= theorem3_rank(tensors(frozen), tensors(target))
    found = least_total(gap, len(frozen), len(target), cap=rank)
    assert_least_total(*found, exact, len(frozen), len(target), cap=rank)


@given(seeds, st.integers(1, 12), st.integers(1, 6), st.data())
def test_random_weights_need_the_same_rank_on_any_balanced_partition(seed, width, depth, data):
    groups = data.draw(st.integers(1, depth))
    weights = tensors(matrices(np.random.default_rng(seed), depth + groups, width, "generic"))
    cost, gap = searches(weights[:depth], weights[depth:])
    rank, _ = best_partition(cost, gap, depth, groups)
    assert rank == corollary4_rank(width, depth, groups)
    assert least_total(gap, depth, groups)[0] == groups * width


@given(seeds, st.integers(1, 12), st.integers(1, 6), st.data())
def test_spread_ranks_close_every_group(seed, width, depth, data):
    groups = data.draw(st.integers(1, depth))
    weights = tensors(matrices(np.random.default_rng(seed), depth + groups, width))
    frozen, target = weights[:depth], weights[depth:]
    cost, gap = searches(frozen, target)
    rank, partition = best_partition(cost, gap, depth, groups)
    for i, group in enumerate(partition):
        ranks = spread(gap(i, group[0], group[-1] + 1), len(group))
        assert max(ranks) <= rank
        assert least_error([frozen[layer] for layer in group], target[i], ranks) == 0


def test_the_best_partition_can_halve_the_uniform_rank():
    """Layer 1 is already right, so three layers can share the work on the second target layer."""
    eye, changed = np.eye(3), np.diag([2.0, 3.0, 4.0])
    frozen, target = tensors([eye] * 4), tensors([eye, changed])
    assert theorem3_rank(frozen, target) == 2
    cost, gap = searches(frozen, target)
    assert best_partition(cost, gap, 4, 2) == (1, ((0,), (1, 2, 3)))


def test_a_cap_trades_total_rank_for_smaller_adapters():
    eye, second = np.eye(4), np.diag([5.0, 1.0, 1.0, 2.0])
    _, gap = searches(tensors([eye, second, eye]), tensors([np.diag([2.0, 3.0, 4.0, 1.0]), second]))
    assert least_total(gap, 3, 2) == least_total(gap, 3, 2, cap=3) == (3, ((0,), (1, 2)))  # 3 in one layer
    assert least_total(gap, 3, 2, cap=2) == (6, ((0, 1), (2,)))  # 4 over two layers, 2 in one
    with pytest.raises(RankError, match="the least is 2"):
        least_total(gap, 3, 2, cap=1)


@settings(max_examples=15)
@given(seeds, st.integers(1, 6), st.integers(1, 4), st.data())
def test_adapt_is_exact_with_the_ranks_needed_on_any_partition(seed, width, depth, data):
    rng, groups = np.random.default_rng(seed), data.draw(st.integers(1, depth))
    weights, wanted = matrices(rng, depth, width), matrices(rng, groups, width)
    frozen = network(weights, rng.standard_normal((depth, width)))
    target = network(wanted, rng.standard_normal((groups, width)))
    partition = data.draw(st.sampled_from(list(all_partitions(depth, groups))))
    _, gap = searches(tensors(weights), tensors(wanted))
    ranks = [r for i, group in enumerate(partition) for r in spread(gap(i, group[0], group[-1] + 1), len(group))]
    names = {f"layers.{layer}.weight": rank for layer, rank in enumerate(ranks)}
    inputs = ball(rng, 300, width, 3.0)
    for choice in ({"ranks": names, "partition": partition}, {"ranks": ls.rank_needed(frozen, target).per_parameter}):
        adapted = construct.stable(frozen, target, domain=ls.Ball(3.0), **choice)
        assert adapted.certificate.exact
        assert worst_error(adapted.model, target, inputs) <= min(adapted.certificate.error_bound, 1e-7)
        assert all(adapter.rank <= choice["ranks"][name] for name, adapter in adapted.adapters.items())


def test_rank_needed_finds_the_better_partition():
    eye, zero = np.eye(3), np.zeros(3)
    need = ls.rank_needed(network([eye] * 4, [zero] * 4), network([eye, np.diag([2.0, 3.0, 4.0])], [zero] * 2))
    assert (need.uniform, need.paper_uniform, need.per_layer) == (1, 2, (0, 1, 1, 1))
    assert need.partition == ((0,), (1, 2, 3))
