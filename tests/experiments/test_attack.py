"""Attacks: the supremum where it is known, points that stay in the domain, and never more than is there."""

import itertools

import pytest
import torch

from lorascope.adaptation import Ball, Box, contains
from lorascope.experiments import attack
from lorascope.experiments.attack import attacked_error, error_norms
from lorascope.models import FNN, TransformerNetwork


def linear(matrix):
    return FNN.from_weights([matrix], activation="identity")


def test_linear_networks_on_a_ball_are_a_norm(generator):
    first, second = (torch.randn(5, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    found = attacked_error(linear(first), linear(second), Ball(3.0), generator)
    assert found == pytest.approx(3 * float(torch.linalg.matrix_norm(first - second, 2)), rel=1e-4)


def test_linear_networks_on_a_box_are_worst_in_a_corner(generator):
    first, second = (torch.randn(4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    box = Box([-1.0, 0.0, -3.0, 1.0], [2.0, 0.0, 1.0, 1.5])
    corners = torch.tensor(list(itertools.product(*zip(box.low, box.high, strict=True))), dtype=torch.float64)
    worst = float(((first - second) @ corners.T).norm(dim=0).max())
    found = attacked_error(linear(first), linear(second), box, generator)
    assert worst * (1 - 1e-6) < found <= worst * (1 + 1e-12)


def test_relu_networks_are_as_bad_as_a_fine_grid_says(generator):
    model, target = (FNN(2, 3, generator=generator) for _ in range(2))
    angles, radii = torch.meshgrid(torch.linspace(0, 6.283185, 2001), torch.linspace(0, 4, 81), indexing="ij")
    grid = torch.stack([radii * angles.cos(), radii * angles.sin()], dim=-1).reshape(-1, 2).double()
    with torch.no_grad():
        worst = float(error_norms(model, target, grid).max())
    found = attacked_error(model, target, Ball(4.0), generator)
    assert 0.9999 * worst < found < 1.001 * worst


@pytest.mark.parametrize("domain", [Ball(2.0), Box([-1.0, -2.0, 0.0], [1.0, 0.5, 3.0])])
def test_no_point_leaves_the_domain(generator, monkeypatch, domain):
    seen = []

    def spied(model, target, inputs):
        seen.append(inputs.detach())
        return error_norms(model, target, inputs)

    monkeypatch.setattr(attack, "error_norms", spied)
    model, target = FNN(3, 2, generator=generator), FNN(3, 1, generator=generator)
    attacked_error(model, target, domain, generator, starts=8, steps=5)
    assert len(seen) == 6
    assert all(contains(domain, points) for points in seen)
    # the ascent is not held back either
    assert float(torch.stack(seen).norm(dim=-1).max()) > 1.99


@torch.no_grad()
def test_every_token_may_be_as_long_as_the_ball_allows(generator):
    model, target = (TransformerNetwork(3, 1, 1, generator=generator) for _ in range(2))
    torch.nn.init.zeros_(model.output.weight)
    few = attacked_error(model, target, Ball(1.0), generator, tokens=1)
    many = attacked_error(model, target, Ball(1.0), generator, tokens=4)
    # one token pays attention to itself alone: the error is that of an FNN, W_o W_2 relu(W_1 W_O W_V x + b_1) + ...
    block = target.layers[0]
    points = torch.nn.functional.normalize(torch.randn(20000, 3, generator=generator, dtype=torch.float64), dim=-1)
    hidden = torch.relu(points @ (block.ffn_in.weight @ block.out[0] @ block.value[0]).T + block.ffn_in.bias)
    sampled = float(
        ((hidden @ block.ffn_out.weight.T + block.ffn_out.bias) @ target.output.weight.T).norm(dim=-1).max()
    )
    assert sampled * 0.9999 < few < sampled * 1.02
    assert many > 0.999 * few


def test_the_models_stay_as_they_are(generator):
    model, target = FNN(3, 2, generator=generator, dtype=torch.float32), FNN(3, 1, generator=generator)
    attacked_error(model, target, Ball(1.0), generator, starts=4, steps=2)
    assert model.linears[0].weight.dtype == torch.float32
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
