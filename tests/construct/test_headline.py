"""The digits that are promised, at the sizes they are promised for."""

import pytest
import torch

import lorascope as ls
from lorascope.models import FNN, TransformerNetwork


def fnn_error(width, target_depth, group, *, dtype=torch.float64, radius=12.0, seed=0):
    """Largest relative output error over N(0, 1) and 5 N(0, 1) inputs inside the ball, and largest update norm."""
    generator = torch.Generator().manual_seed(seed)
    frozen = FNN(width, target_depth * group, generator=generator, dtype=dtype)
    target = FNN(width, target_depth, generator=generator, dtype=dtype)
    domain = ls.Ball(radius * width**0.5)
    found = ls.adapt(frozen, target, -(-width // group), domain=domain)
    worst = 0.0
    with torch.no_grad():
        for spread in (1.0, 5.0):
            points = spread * torch.randn(2000, width, generator=generator, dtype=dtype)
            points = points[points.norm(dim=1) <= domain.radius]
            if len(points):
                wanted = target(points)
                worst = max(worst, float((found.model(points) - wanted).norm() / wanted.norm()))
    norms = [float(torch.linalg.matrix_norm(adapter.delta, 2)) for adapter in found.adapters.values()]
    assert len(norms) == target_depth * group
    assert max(adapter.rank for adapter in found.adapters.values()) <= -(-width // group)
    return worst, max(norms), found


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("group", [2, 4])
@pytest.mark.parametrize("target_depth", [1, 2])
@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_groups_of_2_and_4_layers_to_nine_digits_with_small_updates(width, target_depth, group, seed):
    error, norm, found = fnn_error(width, target_depth, group, seed=seed)
    assert error <= 1e-9
    assert norm <= 15
    assert found.certificate.exact


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("target_depth", [1, 2])
@pytest.mark.parametrize("width", [8, 16])
def test_groups_of_8_layers_to_six_digits(width, target_depth, seed):
    error, norm, _ = fnn_error(width, target_depth, 8, seed=seed)
    assert error <= 1e-6
    assert norm <= 500


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("group", [2, 4])
@pytest.mark.parametrize("target_depth", [1, 2])
@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_float32_to_two_digits(width, target_depth, group, seed):
    error, _, _ = fnn_error(width, target_depth, group, dtype=torch.float32, radius=3.0, seed=seed)
    assert error <= 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("heads", [2, 4])
@pytest.mark.parametrize("width", [8, 16])
def test_transformers_to_eight_digits(width, heads, depth):
    generator = torch.Generator().manual_seed(depth)
    frozen, target = (TransformerNetwork(width, heads, depth, generator=generator) for _ in range(2))
    found = ls.adapt(frozen, target, width // 2)
    points = torch.randn(100, 10, width, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        wanted = target(points)
        assert float((found.model(points) - wanted).norm() / wanted.norm()) <= 1e-8
    assert max(adapter.rank for adapter in found.adapters.values()) <= width // 2
