"""Lemma 1: the least error of adapters on a linear chain is the first singular value beyond their ranks together."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lorascope import construct
from lorascope.theory.fnn import assumption1
from lorascope.theory.linear import difference, difference_rank, exact_rank, least_error
from reference.cases import KINDS, integer_chains, matrices, network, seeds, tensors
from reference.networks import assert_not_undercut, chain, paper_split
from reference.ranks import assert_difference_rank, integer_product, integer_rank


@given(seeds, st.sampled_from(KINDS), st.integers(1, 12), st.integers(1, 4), st.data())
def test_the_papers_split_attains_it_where_its_assumption_holds(seed, kind, width, depth, data):
    rank = data.draw(st.integers(0, width))
    *frozen, target = matrices(np.random.default_rng(seed), depth + 1, width, kind)
    assume(assumption1(tensors(frozen), tensors([target]), rank) > 1e-2)
    claimed = least_error(tensors(frozen), *tensors([target]), rank)
    adapted = paper_split(frozen, target, [rank] * depth)
    assert np.linalg.norm(target - chain(adapted), 2) == pytest.approx(claimed, rel=1e-6, abs=1e-6)


@given(seeds, st.sampled_from(KINDS), st.integers(1, 12), st.integers(1, 4), st.data())
def test_no_adapters_undercut_it(seed, kind, width, depth, data):
    ranks = data.draw(st.lists(st.integers(0, width), min_size=depth, max_size=depth))
    rng = np.random.default_rng(seed)
    *frozen, target = matrices(rng, depth + 1, width, kind)
    claimed = least_error(tensors(frozen), *tensors([target]), ranks)
    assert_not_undercut(claimed, frozen, target, ranks, 10, rng)


@given(integer_chains())
def test_exact_rank_counts_the_difference_over_all_layers(case):
    frozen, (target, *_) = case
    error = integer_rank(target - integer_product(frozen))
    assert_difference_rank(difference_rank(tensors(frozen), tensors([target])).rank, frozen, [target])
    rank = exact_rank(tensors(frozen), *tensors([target]))
    assert (rank - 1) * len(frozen) < error <= rank * len(frozen)
    size = np.abs(integer_product(frozen)).max() + np.abs(target).max()
    assert least_error(tensors(frozen), *tensors([target]), rank) <= 1e-12 * float(size) * len(target)


@given(seeds, st.sampled_from(KINDS), st.integers(1, 12), st.integers(1, 5), st.data())
def test_it_depends_on_the_ranks_through_their_sum_and_never_grows(seed, kind, width, depth, data):
    *frozen, target = tensors(matrices(np.random.default_rng(seed), depth + 1, width, kind))
    ranks = data.draw(st.lists(st.integers(0, 3), min_size=depth, max_size=depth))
    error = least_error(frozen, target, ranks)
    assert least_error(frozen, target, ranks[::-1]) == error
    assert least_error(frozen, target, [sum(ranks)] + [0] * (depth - 1)) == error
    assert least_error(frozen, target, [rank + 1 for rank in ranks]) <= error


@given(seeds, st.integers(1, 12), st.integers(1, 5), st.floats(0.01, 100))
def test_rotating_both_ends_or_scaling_one_layer_changes_it_as_it_must(seed, width, depth, factor):
    rng = np.random.default_rng(seed)
    *frozen, target = matrices(rng, depth + 1, width)
    first, last = matrices(rng, 2, width, "orthogonal")
    error = least_error(tensors(frozen), *tensors([target]), 1)
    turned = [frozen[0] @ first, *frozen[1:]]
    turned[-1] = factor * last @ turned[-1]
    again = least_error(tensors(turned), *tensors([factor * last @ target @ first]), 1)
    assert again == pytest.approx(factor * error, rel=1e-9, abs=1e-12 * factor)


def test_rounding_of_float32_weights_is_no_gap():
    frozen = [weight.float() for weight in tensors(matrices(np.random.default_rng(0), 3, 12))]
    rounded = frozen[2] @ (frozen[1] @ frozen[0])
    assert float(difference(frozen, [rounded]).abs().max()) > 0
    assert exact_rank(frozen, rounded) == 0


@settings(max_examples=15)
@given(seeds, st.integers(1, 8), st.integers(1, 3), st.data())
def test_adapt_is_exact_from_the_threshold_on_and_never_below(seed, width, depth, data):
    *frozen, target = matrices(np.random.default_rng(seed), depth + 1, width)
    rank = data.draw(st.integers(0, width))
    threshold = exact_rank(tensors(frozen), *tensors([target]))
    adapted = construct.stable(
        network(frozen, activation="identity"), network([target], activation="identity"), rank, seconds=1
    )
    weights = [layer.weight.detach().numpy() for layer in adapted.model.linears]
    error = np.linalg.norm(target - chain(weights), 2)
    claimed = least_error(tensors(frozen), *tensors([target]), rank)
    assert adapted.certificate.exact == (rank >= threshold)
    assert claimed - 1e-9 <= error
    if rank >= threshold:
        assert error <= 1e-9
    for before, after in zip(frozen, weights, strict=True):
        assert np.linalg.matrix_rank(after - before, tol=1e-9) <= rank
