"""Objectives on outputs, values and gradients, against loops over inputs and classes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorascope.errors import SpecError
from lorascope.optim import OBJECTIVES, check_objective, output_loss
from reference.objectives import LOSSES, bernoulli, by_torch, probabilities

F64 = torch.float64
DIVERGENCES = [name for name in OBJECTIVES if name != "mse"]


def evaluated(name, outputs, targets, *, losses=True):
    """Values, and gradient with the values that come with it."""
    loss = output_loss(name, tuple(outputs.shape), outputs)
    alone, beside = outputs.new_empty(len(outputs)), outputs.new_empty(len(outputs))
    loss.values(outputs, targets, alone)
    loss.gradient(outputs, targets, beside if losses else None)
    return alone, beside, loss.upstream.clone()


@given(
    st.sampled_from(OBJECTIVES),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from([0.01, 1.0, 5.0]),
    st.integers(0, 99),
)
@settings(max_examples=80)
def test_values_and_gradients_are_those_of_the_loops(name, members, half, batch, shared, size, seed):
    generator = torch.Generator().manual_seed(seed)
    outputs = size * torch.randn(members, 2 * half, batch, generator=generator, dtype=F64)
    targets = size * torch.randn(*([] if shared else [members]), 2 * half, batch, generator=generator, dtype=F64)
    alone, beside, upstream = evaluated(name, outputs, targets)
    assert torch.equal(evaluated(name, outputs, targets, losses=False)[2], upstream)
    leaf = outputs.clone().requires_grad_()
    wanted = torch.stack([LOSSES[name](leaf[one].T, (targets if shared else targets[one]).T) for one in range(members)])
    (slope,) = torch.autograd.grad(wanted.sum(), leaf)
    for found in (alone, beside):
        torch.testing.assert_close(found, wanted.detach(), rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(upstream, slope, rtol=1e-9, atol=1e-12)


def test_two_halves_are_the_two_sides_of_a_coin():
    outputs, targets = torch.tensor([[[1.0], [2.0], [0.5], [0.0]]]), torch.tensor([[0.0], [1.0], [3.0], [1.0]])
    p, q = (1 / (1 + math.exp(-gap)) for gap in (1.0 - 4.0, 3.0 - 0.5))
    value, _, slope = evaluated("binary", outputs, targets)
    assert float(value) == pytest.approx(bernoulli(p, q), rel=1e-5)
    assert slope.flatten().tolist() == pytest.approx([q - p, q - p, p - q, p - q], rel=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("size", [1.0, 1e3])
def test_where_the_networks_agree_value_and_gradient_are_zero(name, size, generator):
    outputs = size * torch.randn(2, 6, 50, generator=generator)
    for values in evaluated(name, outputs, outputs.clone()):
        assert not values.any()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_small_divergences_keep_their_digits_in_float32(name, generator):
    targets = torch.randn(6, 200, generator=generator)
    outputs = (targets + 1e-3 * torch.randn(6, 200, generator=generator))[None]
    exact = evaluated(name, outputs.double(), targets.double())[0]
    assert 0 < float(exact) < 1e-5
    torch.testing.assert_close(evaluated(name, outputs, targets)[0], exact.float(), rtol=1e-2, atol=0)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_outputs_far_apart_stay_finite(name):
    outputs, targets = torch.zeros(2, 4, 1), torch.zeros(4, 1)
    outputs[0, 0], outputs[1, 3], targets[3] = 300.0, 300.0, 300.0
    value, _, slope = evaluated(name, outputs, targets)
    assert value[0] == 300.0
    assert value[1] == 0.0
    assert slope.isfinite().all()


@pytest.mark.parametrize("name", DIVERGENCES)
@given(shift=st.floats(-5, 5))
@settings(max_examples=10)
def test_probabilities_do_not_see_a_shift_of_all_outputs(name, shift):
    outputs, targets = torch.randn(2, 1, 4, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    value = evaluated(name, outputs, targets[0])[0]
    torch.testing.assert_close(evaluated(name, outputs + shift, targets[0])[0], value)


def test_the_loops_are_right_themselves():
    assert [float(p) for p in probabilities(torch.tensor([0.0, math.log(3.0)]))] == pytest.approx([0.25, 0.75])
    outputs, targets = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([[0.0, 0.0]])
    assert float(LOSSES["binary"](outputs, targets)) == pytest.approx(bernoulli(0.5, 0.25))
    assert float(LOSSES["classification"](outputs, targets)) == pytest.approx(bernoulli(0.5, 0.25))
    x, y = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    for name, loss in LOSSES.items():
        torch.testing.assert_close(loss(x, y), by_torch(x, y, name))
    # the divergence the other way round is another number
    assert bernoulli(0.5, 0.25) != pytest.approx(bernoulli(0.25, 0.5), rel=1e-2)


def test_what_is_no_objective_is_refused():
    with pytest.raises(SpecError, match="one of mse, classification, binary, got 'hinge'"):
        check_objective("hinge", 4)
    with pytest.raises(SpecError, match="output width must be even, got 5; pad the models to 6"):
        check_objective("binary", 5)
