"""Bounds on adapted networks hold for any adapters, not only good ones."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lorascope as ls
from contracts.cases import fnn, transformer
from lorascope import construct
from lorascope.adaptation import bound_fnn, bound_transformer, hidden_shift, largest_output, stages_of
from reference.attack import assert_bound_holds
from reference.cases import matrices, network, seeds

EPS = torch.finfo(torch.float64).eps


@settings(max_examples=15)
@given(seeds, st.integers(1, 6), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.sampled_from([0.0, 1.0, 30.0]))
def test_any_network_cut_anyhow_is_within_its_bound_of_the_target(seed, width, sizes, offset):
    """Offset 0: hidden ReLUs switch, and the group is relaxed; 30: they may all be active."""
    rng = np.random.default_rng(seed)
    depth = sum(sizes)
    ends = np.cumsum([0, *sizes])
    partition = tuple(tuple(range(ends[i], ends[i + 1])) for i in range(len(sizes)))
    weights = matrices(rng, depth, width)
    biases = [rng.standard_normal(width) + offset * (layer + 1 not in ends) for layer in range(depth)]
    model = network(weights, biases)
    target = network(matrices(rng, len(sizes), width), [rng.standard_normal(width) for _ in sizes])
    goals = [layer.weight.detach() for layer in target.linears]
    shifts = [layer.bias.detach() for layer in target.linears]
    bounds = bound_fnn(stages_of(model, partition, goals, shifts), ls.Ball(1.0), True, EPS, EPS)
    if offset == 0 and width > 3 and max(sizes) > 1:
        assert bounds.inactive
    assert_bound_holds(bounds.error, model, target, ls.Ball(1.0), width, count=32, steps=10)


def test_a_group_with_a_hidden_relu_that_switches_is_named():
    target = network([np.eye(2)], [np.zeros(2)])
    goals, shifts = [torch.eye(2).double()], [torch.zeros(2).double()]
    for bias, inactive in ((1.01, ()), (0.99, (0,))):
        model = network([np.eye(2)] * 2, [np.full(2, bias), np.full(2, -bias)])
        bounds = bound_fnn(stages_of(model, ((0, 1),), goals, shifts), ls.Ball(1.0), True, EPS, EPS)
        assert bounds.inactive == inactive
        assert (bounds.error < 1e-12) == (inactive == ())
        assert_bound_holds(bounds.error, model, target, ls.Ball(1.0), 2)


def test_samples_outside_the_domain_leave_no_expectation():
    frozen, target = fnn(3, 2, 1)
    inside, outside = torch.full((2, 3), 0.5).double(), torch.full((2, 3), 2.0).double()
    for domain in (ls.Ball(1.0), ls.Box([-1.0] * 3, [1.0] * 3)):
        assert (
            construct.stable(frozen, target, 1, domain=domain, samples=inside).certificate.expected_error_bound
            is not None
        )
        assert (
            construct.stable(frozen, target, 1, domain=domain, samples=outside).certificate.expected_error_bound is None
        )


@settings(max_examples=15)
@given(seeds, st.integers(1, 4), st.integers(1, 2), st.integers(1, 2), st.sampled_from([0.0, 1e-6, 1e-2, 1.0]))
def test_transformers_a_little_or_far_apart_are_within_their_bound(seed, width, heads, depth, apart):
    model, target = transformer(width, heads, depth, seed=seed), transformer(width, heads, depth, seed=seed)
    model, target = model[0], target[0]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(apart * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    bounds = bound_transformer(model, target, 0.7)
    assert len(bounds.score_error) == depth
    worst = assert_bound_holds(bounds.error, model, target, ls.Ball(0.7), width, tokens=3, count=24, steps=10)
    if apart == 1e-6:
        assert bounds.error < 1.0  # and says something
        assert worst > 0


def test_hidden_shift_solves_or_comes_nearest():
    matrix, bias = torch.diag(torch.tensor([2.0, 0.0])).double(), torch.tensor([4.0, 1.0]).double()
    torch.testing.assert_close(hidden_shift(matrix, bias), torch.tensor([2.0, 0.0]).double())


@pytest.mark.parametrize("tokens", [None, 3])
def test_largest_output_of_a_linear_map_is_its_norm_on_a_ball(tokens):
    matrix = np.random.default_rng(0).standard_normal((6, 6))
    model = network([matrix], activation="identity")
    found = largest_output(model, ls.Ball(2.0), 6, tokens=tokens)
    assert 2 * np.linalg.norm(matrix, 2) * 0.999 <= found <= 2 * np.linalg.norm(matrix, 2) * (1 + 1e-12)


def test_largest_output_on_a_box_is_at_a_corner_and_points_count_as_boxes():
    model = network([np.diag([1.0, 2.0])], activation="identity")
    assert largest_output(model, ls.Box([-1.0, 0.0], [0.5, 3.0]), 2) == pytest.approx((1 + 36) ** 0.5)
    assert largest_output(model, ls.Box([3.0, 2.0], [3.0, 2.0]), 2) == pytest.approx(5.0)
    assert largest_output(model, ls.Ball(0.0), 2) == 0.0
