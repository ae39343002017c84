"""Theorem 5: the error below the threshold. As usually quoted it is false, twice; corrected it holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorascope.theory.bounds import sharp_bound, theorem5_bound, theorem5_bound_quoted
from lorascope.theory.fnn import theorem3_rank
from lorascope.theory.partition import uniform_partition
from reference.cases import KINDS, matrices, seeds, tensors
from reference.networks import assert_mean_error_within, linearised, relu_network


def arguments(frozen, target, biases, rank, inputs):
    return tensors(frozen), tensors(target), tensors(biases), rank, *tensors([inputs.T @ inputs / len(inputs)])


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(seeds))
    width, depth = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    groups, kind = draw(st.integers(1, depth)), draw(st.sampled_from(KINDS))
    frozen = matrices(rng, depth, width, kind)
    target = [10 ** rng.uniform(-1, 1) * weight for weight in matrices(rng, groups, width, kind)]
    biases = [rng.uniform(0, 3) * rng.standard_normal(width) for _ in target]
    inputs = rng.uniform(0.1, 3) * rng.standard_normal((40, width)) + draw(st.sampled_from([0, 2]))
    return frozen, target, biases, draw(st.integers(0, width)), inputs


@given(problems())
def test_corrected_and_sharp_hold_in_this_order(problem):
    frozen, target, biases, rank, inputs = problem
    given_ = arguments(*problem)
    partition = uniform_partition(len(frozen), len(target))
    adapted = linearised(frozen, target, partition, rank)
    assert_mean_error_within(sharp_bound(*given_), adapted, target, biases, inputs)
    assert sharp_bound(*given_) <= theorem5_bound(*given_) * (1 + 1e-9)


@given(problems())
def test_more_rank_never_loosens_them_and_the_threshold_closes_them(problem):
    frozen, target, biases, _, inputs = problem
    threshold = theorem3_rank(tensors(frozen), tensors(target))
    for bound in (sharp_bound, theorem5_bound):
        values = [bound(*arguments(frozen, target, biases, rank, inputs)) for rank in range(threshold + 1)]
        assert values == sorted(values, reverse=True)
        assert values[-1] == 0


@given(problems())
def test_flags_undo_the_two_misprints_one_by_one(problem):
    given_ = arguments(*problem)
    right = theorem5_bound(*given_)
    assert theorem5_bound_quoted(*given_, frobenius_moment=False, short_product=False) == right
    # tr Sigma >= ||Sigma||_F
    assert theorem5_bound_quoted(*given_, short_product=False) <= right * (1 + 1e-12)
    if len(problem[1]) == 1:  # no product over k
        assert theorem5_bound_quoted(*given_, frobenius_moment=False) == right


def test_frobenius_norm_of_the_second_moment_is_too_small():
    rng = np.random.default_rng(0)
    width = 64
    *frozen, target = matrices(rng, 3, width, "orthogonal")
    problem = (frozen, [1e-3 * target], [np.zeros(width)], 1)
    inputs = rng.standard_normal((20_000, width))
    given_ = (*map(tensors, problem[:3]), 1, *tensors([np.eye(width)]))
    adapted = linearised(frozen, problem[1], [(0, 1)], 1)
    error = np.linalg.norm(
        relu_network(inputs, adapted, problem[2]) - relu_network(inputs, *problem[1:3]), axis=1
    ).mean()
    assert error == pytest.approx(5.51, abs=0.05)
    assert theorem5_bound_quoted(*given_) == pytest.approx(2.83, abs=0.01)
    assert theorem5_bound_quoted(*given_) < error
    assert theorem5_bound(*given_) == pytest.approx(8.01, abs=0.01)
    assert theorem5_bound(*given_) > error


@pytest.mark.parametrize("shift", [0.0, 1e-6])
def test_a_product_that_ends_one_early_is_too_small(shift):
    second, eye = np.diag([0.0, 1.0]), np.eye(2)
    target = [weight + shift * eye for weight in (second, 10 * second, 0 * second)]
    frozen = [*target[:2], np.diag([2.0, 1.0])]
    biases, inputs = [np.array([0.0, 1.0]), np.zeros(2), np.zeros(2)], np.array([[0.0, 1.0]])
    given_ = arguments(frozen, target, biases, 1, inputs)
    adapted = linearised(frozen, target, uniform_partition(3, 3), 1)
    error = assert_mean_error_within(theorem5_bound(*given_), adapted, target, biases, inputs)
    assert error == pytest.approx(20.0, abs=1e-3)
    for flag in (True, False):
        assert theorem5_bound_quoted(*given_, frobenius_moment=flag) == pytest.approx(11.0, abs=1e-3)
    assert theorem5_bound(*given_) == pytest.approx(20.0, abs=1e-3)  # tight
    assert sharp_bound(*given_) == pytest.approx(20.0, abs=1e-3)


def test_the_bound_written_out_for_two_layers():
    """beta (E_1 max_k (|Wbar_k| + E_k) + E_2), beta = max(s, s |Wbar_1| + |bbar_1|), on numbers done by hand."""
    frozen, target = [np.eye(2), np.eye(2)], [np.diag([4.0, 3.0]), np.diag([6.0, 1.5])]
    biases, inputs = [np.array([3.0, 4.0]), np.array([9.0, 9.0])], np.array([[0.0, 2.0]])
    # R = 1: E = (2, 0.5); Frobenius norms 5 and sqrt(38.25); s = 2
    given_ = arguments(frozen, target, biases, 1, inputs)
    assert theorem5_bound(*given_) == pytest.approx(15 * (2 * max(7, 38.25**0.5 + 0.5) + 0.5))
    assert sharp_bound(*given_) == pytest.approx((6 + 0.5) * 2 * 2 + 0.5 * (4 * 2 + 5))
