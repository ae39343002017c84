"""Corollary 4: ceil(D / M) is enough for random weights, within a factor 2 of the target's own size."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lorascope.theory.fnn import corollary4_rank, theorem3_rank
from lorascope.theory.parameters import last_layers_parameters, lora_parameters
from reference.cases import integer_chains, matrices, seeds, tensors


@given(seeds, st.integers(1, 12), st.integers(1, 6), st.data())
def test_random_weights_need_exactly_it(seed, width, depth, data):
    groups = data.draw(st.integers(1, depth))
    weights = tensors(matrices(np.random.default_rng(seed), depth + groups, width, "generic"))
    assert theorem3_rank(weights[:depth], weights[depth:]) == corollary4_rank(width, depth, groups)


@given(integer_chains())
def test_no_weights_need_more(case):
    frozen, target = case
    assert theorem3_rank(tensors(frozen), tensors(target)) <= corollary4_rank(len(target[0]), len(frozen), len(target))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_where_everything_divides_it_trains_twice_the_targets_parameters(rank, groups, size):
    width, depth = rank * size, groups * size
    found = corollary4_rank(width, depth, groups)
    assert found == rank
    assert lora_parameters(width, [found] * depth) == 2 * last_layers_parameters(width, groups)
