"""Theorem 3: on the uniform partition the largest gap over M is rank enough."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lorascope as ls
from lorascope import construct
from lorascope.theory.fnn import theorem3_rank
from lorascope.theory.linear import least_error
from lorascope.theory.partition import uniform_partition
from reference.cases import ball, integer_chains, matrices, network, seeds, tensors, worst_error
from reference.ranks import integer_product, integer_rank


@given(integer_chains())
def test_it_is_the_formula(case):
    frozen, target = case
    partition = uniform_partition(len(frozen), len(target))
    gaps = [
        integer_rank(wanted - integer_product([frozen[layer] for layer in group]))
        for group, wanted in zip(partition, target, strict=True)
    ]
    assert theorem3_rank(tensors(frozen), tensors(target)) == int(np.ceil(max(gaps) / (len(frozen) // len(target))))


@given(seeds, st.integers(1, 12), st.integers(1, 6), st.data())
def test_at_that_rank_every_group_has_no_error_left(seed, width, depth, data):
    groups = data.draw(st.integers(1, depth))
    weights = tensors(matrices(np.random.default_rng(seed), depth + groups, width))
    frozen, target = weights[:depth], weights[depth:]
    rank = theorem3_rank(frozen, target)
    for group, wanted in zip(uniform_partition(depth, groups), target, strict=True):
        assert least_error([frozen[layer] for layer in group], wanted, rank) == 0


def test_a_network_that_already_is_the_target_needs_none():
    weights = tensors(matrices(np.random.default_rng(0), 3, 5))
    assert theorem3_rank(weights, weights) == 0


@pytest.mark.parametrize(("layers", "rank"), [(2, 3), (3, 3), (4, 2), (5, 2), (6, 1)])
def test_only_a_larger_m_lowers_it(layers, rank):
    """M = floor(L / Lbar): a layer left over for the last group is not counted on."""
    eye = np.eye(3)
    assert theorem3_rank(tensors([eye] * layers), tensors([np.diag([2.0, 3.0, 4.0]), eye])) == rank


@settings(max_examples=15)
@given(seeds, st.integers(1, 8), st.integers(1, 4), st.data())
def test_adapt_is_exact_at_that_rank_and_the_certificate_holds_below(seed, width, depth, data):
    rng, groups = np.random.default_rng(seed), data.draw(st.integers(1, depth))
    frozen = network(matrices(rng, depth, width), rng.standard_normal((depth, width)))
    target = network(matrices(rng, groups, width), rng.standard_normal((groups, width)))
    need, inputs = ls.rank_needed(frozen, target), ball(rng, 300, width, 4.0)
    assert need.paper_uniform == theorem3_rank(*([la.weight for la in net.linears] for net in (frozen, target)))
    assert need.uniform <= need.paper_uniform
    exact = construct.stable(frozen, target, need.paper_uniform, domain=ls.Ball(4.0))
    assert exact.certificate.exact
    assert worst_error(exact.model, target, inputs) <= min(exact.certificate.error_bound, 1e-7)
    below = construct.stable(frozen, target, need.uniform - 1, domain=ls.Ball(4.0), seconds=0.2)
    assert not below.certificate.exact
    assert worst_error(below.model, target, inputs) <= below.certificate.error_bound
