"""Lemma 4: re-tuning later layers cannot undo what the first one merges; on a bounded domain it may merge nothing."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lorascope.theory.last_layers import constant_direction, tuning_fails
from reference.cases import matrices, seeds, tensors
from reference.merging import assert_witness, clearance_in_ball, clearance_in_box, clearances


@st.composite
def layers(draw, min_width=1):
    """First layer and target, with biases that leave some units on or off throughout the domain, some not."""
    rng = np.random.default_rng(draw(seeds))
    width = draw(st.integers(min_width, 5))
    first, wanted = matrices(rng, 2, width, draw(st.sampled_from(("generic", "close", "orthogonal"))))
    assume(np.linalg.cond(first) < 1e4)
    biases = draw(st.sampled_from((0.0, 1.0, 3.0))) + rng.standard_normal((2, width))
    return first, biases[0], draw(st.sampled_from((1, -1))) * wanted, biases[1], rng


def decide(problem, centre, half_width, shape):
    pair = tuning_fails(
        *tensors(problem),
        **dict(zip(("centre", "half_width"), tensors([centre, half_width]), strict=True)),
        shape=shape,
    )
    return pair if pair is None else [point.numpy() for point in pair]


@settings(max_examples=40)
@given(layers())
def test_on_a_box_it_agrees_with_linear_programs(case):
    *problem, rng = case
    low = rng.standard_normal(len(problem[1])) - 1
    high = low + rng.uniform(0.1, 3, len(low))
    every = clearances(problem[0], problem[2], lambda k, j: clearance_in_box(*problem, k, j, low, high))
    best = max(every, default=-1.0)
    assume(abs(best) > 1e-6)
    pair = decide(problem, (low + high) / 2, (high - low) / 2, "box")
    assert (pair is not None) == (best > 0)
    if pair is not None:
        assert_witness(pair, *problem, lambda x: bool((x >= low).all() and (x <= high).all()))


@settings(max_examples=40)
@given(layers(min_width=2), st.floats(0.2, 3))
def test_on_a_ball_it_agrees_with_a_grid(case, radius):
    *problem, _ = case
    width = len(problem[1])
    every = clearances(problem[0], problem[2], lambda k, j: clearance_in_ball(*problem, k, j, radius))
    best = max(every, default=-1.0)
    assume(abs(best) > 0.05 * radius)
    pair = decide(problem, np.zeros(width), np.full(width, radius), "ball")
    assert (pair is not None) == (best > 0)
    if pair is not None:
        assert_witness(pair, *problem, lambda x: bool(np.linalg.norm(x) <= radius))


@settings(max_examples=40)
@given(layers(min_width=2))
def test_on_a_large_enough_ball_it_always_fails(case):
    """The paper's statement is about all of R^D: there, random weights always leave such a segment."""
    *problem, _ = case
    width = len(problem[1])
    assert decide(problem, np.zeros(width), np.full(width, 1e4), "ball") is not None


@settings(max_examples=40)
@given(layers(), st.integers(0, 2**16))
def test_a_witness_survives_any_retuning_of_the_later_layers(case, seed):
    *problem, _ = case
    width = len(problem[1])
    pair = decide(problem, np.zeros(width), np.full(width, 2.0), "box")
    assume(pair is not None)
    rng = np.random.default_rng(seed)
    hidden = [np.maximum(problem[0] @ point + problem[1], 0) for point in pair]
    for weight in matrices(rng, 3, width, "generic"):
        bias = rng.standard_normal(width)
        hidden = [np.maximum(weight @ point + bias, 0) for point in hidden]
    np.testing.assert_allclose(hidden[0], hidden[1], atol=1e-10)


def test_it_is_false_where_the_first_layer_is_active_throughout():
    """D = 3 on [-1, 1]^3 with b_1 = 20: the first layer is injective there, so it merges nothing."""
    rng = np.random.default_rng(0)
    first, wanted = matrices(rng, 2, 3, "generic")
    assert (20 - np.abs(first).sum(axis=1) > 0).all()
    bias = rng.standard_normal(3)
    assert decide((first, np.full(3, 20.0), wanted, bias), np.zeros(3), np.ones(3), "box") is None
    assert decide((first, np.zeros(3), wanted, bias), np.zeros(3), np.ones(3), "box") is not None


@pytest.mark.parametrize("shape", ["box", "ball"])
def test_antiparallel_half_spaces_and_hidden_directions_leave_no_witness(shape):
    eye, zero, one = np.eye(2), np.zeros(2), np.ones(2)
    assert decide((eye, zero, eye, zero), zero, one, shape) is None  # on only where the first layer sees it
    assert decide((eye, zero, eye, zero + 0.5), zero, one, shape) is not None
    assert decide((eye, zero, 0 * eye, one), zero, one, shape) is None  # a constant target
    assert decide((eye, one + 1e-9, -eye, zero), zero, one, shape) is None  # off nowhere
    assert decide((eye, one - 0.1, -eye, zero), zero, one, shape) is not None


@given(seeds, st.integers(1, 12), st.data())
def test_the_direction_is_seen_by_that_unit_only(seed, width, data):
    weight = matrices(np.random.default_rng(seed), 1, width)[0]
    unit = data.draw(st.integers(0, width - 1))
    seen = weight @ constant_direction(*tensors([weight]), unit).numpy()
    assert abs(seen[unit]) > 1e-3
    np.testing.assert_allclose(np.delete(seen, unit), 0, atol=1e-13)


def test_a_unit_that_repeats_another_still_has_a_direction():
    weight = torch.ones(3, 3, dtype=torch.float64)
    direction = constant_direction(weight, 2)
    assert float(torch.linalg.vector_norm(direction)) == pytest.approx(1.0)
    assert float((weight @ direction).abs().max()) < 1e-14
