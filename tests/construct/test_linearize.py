"""Hidden ReLUs are active on the whole domain, by little, and the group then is one affine map."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lorascope as ls
from lorascope import construct
from lorascope.adaptation import region_of
from lorascope.construct.linearize import linearizing_biases
from reference.attack import inputs_of, project
from reference.cases import matrices, network, seeds, tensors


def domain_of(kind, width, rng):
    if kind == "ball":
        return ls.Ball(2.0)
    low = rng.standard_normal(width)
    return ls.Box(torch.from_numpy(low), torch.from_numpy(low + rng.uniform(0, 2, width)))


def minimisers(domain, rows):
    """The point of the domain at which each row is least."""
    if isinstance(domain, ls.Ball):
        return -domain.radius * rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-300)
    return torch.where(rows > 0, domain.low, domain.high)


def assert_active(weights, biases, points):
    hidden = points
    for layer, (weight, bias) in enumerate(zip(weights[:-1], biases[:-1], strict=True)):
        hidden = hidden @ weight.T + bias
        assert float(hidden.min()) > 0, f"a hidden unit of layer {layer} is at {float(hidden.min())}"
    return hidden


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@given(seeds, st.integers(1, 12), st.integers(1, 6), st.sampled_from(["ball", "box"]), st.data())
def test_every_hidden_unit_is_active_where_it_is_least_and_offsets_do_not_compound(
    dtype, seed, width, depth, kind, data
):
    rng = np.random.default_rng(seed)
    weights = tensors(matrices(rng, depth, width, data.draw(st.sampled_from(["generic", "close"]))))
    narrow = data.draw(st.integers(1, width))
    domain = domain_of(kind, width, rng)
    goal = torch.from_numpy(rng.standard_normal(narrow))
    region = region_of(domain, width, width, goal)
    biases, after = linearizing_biases(weights, goal, region, dtype)
    assert all(torch.equal(bias, bias.to(dtype).double()) for bias in biases)
    combined, hidden_offset = torch.eye(width).double(), torch.zeros(width).double()
    points = [inputs_of(domain, width, 50, 0)]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        combined, hidden_offset = weight @ combined, weight @ hidden_offset + bias
        points.append(minimisers(domain, combined))
        least = (combined * points[-1]).sum(1)
        # just above zero: the offset is what this layer needs and not the sum of all before
        assert ((least + hidden_offset) <= 0.11 * (1 + least.abs()) + 1e-4).all()
    points = torch.cat(points)
    hidden = assert_active(weights, biases, points)
    output = (hidden @ weights[-1].T + biases[-1]).clamp(min=0)
    product = weights[-1] @ combined
    wanted = (points @ product.T)[:, :narrow] + goal
    tolerance = 1e-9 if dtype == torch.float64 else 1e-3
    torch.testing.assert_close(output[:, :narrow], wanted.clamp(min=0), rtol=tolerance, atol=tolerance)
    assert torch.equal(output[:, narrow:], torch.zeros_like(output[:, narrow:]))
    assert ((output >= after.low - 1e-9) & (output <= after.high + 1e-9)).all()
    assert float((output - after.centre).norm(dim=1).max()) <= after.radius + 1e-9


def test_the_activity_oracle_rejects_a_unit_that_switches_off():
    eye = torch.eye(2).double()
    corner = minimisers(ls.Ball(1.0), eye)
    assert_active([eye, eye], [torch.full((2,), 1.01).double(), eye[0]], corner)
    with pytest.raises(AssertionError, match="layer 0"):
        assert_active([eye, eye], [torch.full((2,), 0.99).double(), eye[0]], corner)


@pytest.mark.parametrize("kind", ["ball", "box"])
@pytest.mark.parametrize("rank", [1, 2])  # below and at the threshold
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_descent_on_the_input_finds_no_inactive_unit_in_an_adapted_network(kind, rank, dtype):
    rng = np.random.default_rng(4)
    weights = matrices(rng, 6, 4)
    biases = [rng.standard_normal(4) for _ in weights]
    frozen, target = (network(weights[cut], biases[cut]).to(dtype) for cut in (slice(0, 4), slice(4, 6)))
    domain = domain_of(kind, 4, rng)
    found = construct.stable(frozen, target, rank, domain=domain, partition=[[0, 1], [2, 3]])
    points = inputs_of(domain, 4, 64, 1).to(dtype)
    size = 4.0
    for step in range(40):
        points = points.detach().requires_grad_()
        hidden, least = points, []
        for index, layer in enumerate(found.model.linears):
            hidden = layer(hidden)
            if index % 2 == 0:
                least.append(hidden.amin(dim=1))
            hidden = torch.relu(hidden)
        lowest = torch.stack(least).amin(dim=0)
        assert float(lowest.detach().min()) > 0, f"step {step}"
        (gradient,) = torch.autograd.grad(lowest.sum(), points)
        length = gradient.norm(dim=1, keepdim=True).clamp(min=1e-30)
        points = project((points.detach() - size * 0.8 ** (step % 10) * gradient / length).double(), domain, 4).to(
            dtype
        )
