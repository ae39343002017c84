"""Lemma 2: one target layer; biases make the hidden ReLUs linear, then Lemma 1 applies."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lorascope as ls
from lorascope import construct
from lorascope.theory.fnn import assumption1, lemma2_bound
from lorascope.theory.linear import exact_rank, least_error
from reference.cases import ball, matrices, network, seeds, tensors, worst_error
from reference.networks import assert_mean_error_within, linearised, paper_split, relu_network


def biases_of_the_proof(adapted, target_bias, inputs):
    """Large enough for every hidden unit to be active on these inputs; the last one restores the target's."""
    biases, offset = [], np.zeros(len(target_bias))
    hidden = inputs
    for weight in adapted[:-1]:
        bias = np.full(len(weight), 1.0 + max(0.0, -(hidden @ weight.T).min()))
        hidden, offset = hidden @ weight.T + bias, weight @ offset + bias
        biases.append(bias)
    return [*biases, target_bias - adapted[-1] @ offset]


@given(seeds, st.integers(1, 8), st.integers(1, 4), st.data())
def test_the_adapted_network_is_the_truncated_one_layer(seed, width, depth, data):
    rank = data.draw(st.integers(0, width))
    rng = np.random.default_rng(seed)
    *frozen, target = matrices(rng, depth + 1, width)
    assume(assumption1(tensors(frozen), tensors([target]), rank) > 1e-2)
    bias, inputs = rng.standard_normal(width), rng.standard_normal((50, width))
    adapted = paper_split(frozen, target, [rank] * depth)
    outputs = relu_network(inputs, adapted, biases_of_the_proof(adapted, bias, inputs))
    group = [tuple(range(depth))]
    np.testing.assert_allclose(
        outputs, relu_network(inputs, linearised(frozen, [target], group, rank), [bias]), atol=1e-6
    )
    errors = np.linalg.norm(outputs - relu_network(inputs, [target], [bias]), axis=1)
    sigma = least_error(tensors(frozen), *tensors([target]), rank)
    assert (errors <= sigma * np.linalg.norm(inputs, axis=1) + 1e-6).all()


@given(seeds, st.integers(1, 12), st.integers(1, 4), st.integers(0, 4), st.floats(0.1, 10))
def test_the_bound_holds_for_the_mean(seed, width, depth, rank, spread):
    rng = np.random.default_rng(seed)
    *frozen, target = matrices(rng, depth + 1, width, "generic")
    bias, inputs = rng.standard_normal(width), spread * rng.standard_normal((60, width)) + rng.standard_normal(width)
    moment = inputs.T @ inputs / len(inputs)
    bound = lemma2_bound(tensors(frozen), *tensors([target]), rank, *tensors([moment]))
    assert_mean_error_within(bound, linearised(frozen, [target], [tuple(range(depth))], rank), [target], [bias], inputs)


def test_the_bound_is_attained_by_one_active_direction():
    eye, input_ = torch.eye(2, dtype=torch.float64), torch.tensor([0.0, 3.0], dtype=torch.float64)
    target = torch.diag(torch.tensor([5.0, 3.0], dtype=torch.float64))
    assert lemma2_bound([eye], target, 1, torch.outer(input_, input_)) == pytest.approx(6.0)  # (3 - 1) |x|


@settings(max_examples=15)
@given(seeds, st.integers(1, 8), st.integers(1, 3), st.floats(0.5, 20))
def test_adapt_is_exact_at_the_threshold_on_the_whole_ball(seed, width, depth, radius):
    rng = np.random.default_rng(seed)
    *weights, wanted = matrices(rng, depth + 1, width)
    frozen, target = (
        network(weights, rng.standard_normal((depth, width))),
        network([wanted], rng.standard_normal((1, width))),
    )
    rank = exact_rank(tensors(weights), *tensors([wanted]))
    adapted = construct.stable(frozen, target, rank, domain=ls.Ball(radius))
    error = worst_error(adapted.model, target, ball(rng, 500, width, radius))
    assert adapted.certificate.exact
    assert error <= adapted.certificate.error_bound
    assert error <= 1e-8 * (1 + radius)
