"""From activations' moments to a bound on the mean error, and from samples to their distribution."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorascope.errors import ShapeError, SpecError
from lorascope.theory import activation_moments, moment_bound, population_bound, sharp_bound, uniform_partition
from reference.cases import KINDS, matrices, seeds, tensors
from reference.networks import assert_mean_error_within, linearised, relu_network


def by_hand(products, target, biases, inputs):
    """The recursion from the samples themselves, one at a time, without a moment."""
    bound, hidden = 0.0, inputs
    for product, goal, bias in zip(products, target, biases, strict=True):
        misses = [np.linalg.norm((product - goal) @ row) ** 2 for row in hidden]
        bound = np.linalg.svd(product)[1][0] * bound + np.sqrt(sum(misses) / len(misses))
        hidden = relu_network(hidden, [goal], [bias])
    return bound


@settings(max_examples=40)
@given(seeds, st.integers(1, 8), st.integers(1, 6), st.data())
def test_moments_hold_say_what_the_samples_say_and_are_sharper_than_norms(seed, width, depth, data):
    rng = np.random.default_rng(seed)
    groups, kind = data.draw(st.integers(1, depth)), data.draw(st.sampled_from(KINDS))
    rank = data.draw(st.integers(0, width))
    frozen, target = matrices(rng, depth, width, kind), matrices(rng, groups, width, kind)
    biases = [rng.standard_normal(width) for _ in target]
    inputs = rng.standard_normal((50, width)) + 0.5
    products = linearised(frozen, target, uniform_partition(depth, groups), rank)
    moments = activation_moments(tensors(target), tensors(biases), torch.from_numpy(inputs))
    bound = moment_bound(tensors(products), tensors(target), moments)
    assert_mean_error_within(bound, products, target, biases, inputs)
    assert bound == pytest.approx(by_hand(products, target, biases, inputs), rel=1e-9, abs=1e-12)
    sharp = sharp_bound(tensors(frozen), tensors(target), tensors(biases), rank, moments[0])
    assert bound <= sharp * (1 + 1e-9) + 1e-9


def test_moments_that_belong_to_other_inputs_are_no_bound():
    """The oracle fails a bound from too small a moment."""
    inputs = np.array([[3.0]])
    assert moment_bound(*map(tensors, ([[[1.0]]], [[[2.0]]], [[[9.0]]]))) == 3.0
    with pytest.raises(AssertionError, match="exceeds"):
        assert_mean_error_within(
            moment_bound(*map(tensors, ([[[1.0]]], [[[2.0]]], [[[8.0]]]))),
            [np.eye(1)],
            [2 * np.eye(1)],
            [[0.0]],
            inputs,
        )


def test_lists_and_shapes_that_do_not_fit_are_quoted():
    eye = torch.eye(2).double()
    with pytest.raises(ShapeError, match="1 products, 2 layers, 1 moments"):
        moment_bound([eye], [eye, eye], [eye])
    with pytest.raises(ShapeError, match=r"at least one.*0 products, 0 layers"):
        moment_bound([], [], [])
    with pytest.raises(ShapeError, match=r"layer 0.*\(2, 2\).*\(3, 3\)"):
        moment_bound([eye], [eye], [torch.eye(3).double()])
    with pytest.raises(ShapeError, match=r"\(0, 2\)"):
        activation_moments([eye], [eye[0]], torch.zeros(0, 2).double())
    with pytest.raises(ShapeError, match="1 weights and 2 biases"):
        activation_moments([eye], [eye[0], eye[0]], torch.zeros(1, 2).double())


def assert_covers(bound, draws, expectation, least):
    share = np.mean([bound(draw) >= expectation for draw in draws])
    assert share >= least, (
        f"the bound covers the expectation in {share:.0%} of the trials, at least {least:.0%} promised"
    )


def test_what_samples_say_of_their_distribution_fails_no_more_often_than_allowed():
    """Rare large errors, the hardest case: 1 with probability 0.02, else 0."""
    rng = np.random.default_rng(0)
    draws = torch.from_numpy((rng.random((400, 200)) < 0.02).astype(float))
    assert_covers(lambda draw: population_bound(draw, 1.0, 0.9), draws, 0.02, 0.9)
    with pytest.raises(AssertionError, match="covers"):
        assert_covers(lambda draw: float(draw.mean()), draws, 0.02, 0.9)
    assert population_bound(draws[0], 1.0, 0.9) < population_bound(draws[0], 1.0, 0.99) <= 1.0
    assert population_bound(torch.tensor([1.0, 1.0]), 1.0) == 1.0


def test_errors_and_confidences_that_say_nothing_are_refused():
    with pytest.raises(ShapeError, match=r"at least 2.*\(1,\)"):
        population_bound(torch.ones(1), 1.0)
    with pytest.raises(SpecError, match=r"between 0 and 1, got 1\.0"):
        population_bound(torch.ones(3), 1.0, 1.0)
    for least in (-5.0, float("nan")):
        with pytest.raises(SpecError, match=f"at least 0.*got {least:g}"):
            population_bound(torch.tensor([least, 1.0]), 2.0)
    with pytest.raises(SpecError, match=r"at least every error, 1, got 0\.5"):
        population_bound(torch.ones(3), 0.5)
