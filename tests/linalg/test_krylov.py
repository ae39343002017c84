"""Leading singular triples without the whole SVD: as good as the best, and what is left over is what is said."""

import pytest
import torch

from lorascope.errors import RankError
from lorascope.linalg import krylov, leading

PLACES = torch.arange(1, 401, dtype=torch.float64)
SPECTRA = {
    "flat": torch.ones(400, dtype=torch.float64),
    "root": PLACES**-0.5,
    "power": 1 / PLACES,
    "steps": (PLACES < 12) * 1.0 + 0.01,
    "low": (PLACES <= 7).double(),
    "noise": None,
}


def rotation(size, generator):
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]


def matrix(name, wide, generator):
    values = SPECTRA[name]
    if values is None:
        result = torch.randn(400, 500, generator=generator, dtype=torch.float64)
    else:
        result = (rotation(400, generator) * values) @ rotation(500, generator)[:400]
    return result if wide else result.T.contiguous()


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [1, 16, 200])
def test_no_approximation_of_that_rank_is_better(name, wide, dtype, rank, generator):
    given = matrix(name, wide, generator)
    found = leading(given.to(dtype), rank, generator)
    values = torch.linalg.svdvals(given)
    least = float(values[rank:].norm())
    error = float((given - found.left.double() @ found.right.double()).norm())
    rounding = 30 * torch.finfo(dtype).eps * float(values.norm())
    assert error <= 1.001 * least + rounding
    assert abs(found.residual - error) <= 1e-3 * error + rounding
    assert (found.blocks == 0) == (rank == 200)  # small matrices and large ranks take the exact way
    count = len(found.values)
    assert count <= rank
    eye = torch.eye(count, dtype=dtype)
    assert (found.left.T @ found.left - eye).abs().max() < 500 * torch.finfo(dtype).eps
    squares = torch.diag(found.values.square())
    assert torch.allclose(found.right @ found.right.T, squares, atol=1e-5 * float(values[0]) ** 2)
    if name != "noise":
        assert torch.allclose(found.values.double(), values[:count], rtol=1e-2, atol=1e-6)


def test_a_space_that_is_never_resolved_falls_back(generator, monkeypatch):
    monkeypatch.setattr(krylov, "_BLOCKS", 2)
    given = matrix("root", True, generator)
    found = leading(given, 16, generator)
    assert found.blocks == 0
    assert found.residual == pytest.approx(float(torch.linalg.svdvals(given)[16:].norm()), rel=1e-9)


def test_degenerate_sizes(generator):
    empty = leading(torch.zeros(0, 3), 2, generator)
    assert empty.left.shape == (0, 0)
    zero = leading(torch.zeros(5, 3), 2, generator)
    assert (zero.left.shape, zero.right.shape, zero.residual) == ((5, 0), (0, 3), 0)
    none = leading(torch.ones(5, 3), 0, generator)
    assert (none.left.shape[1], none.residual) == (0, pytest.approx(15**0.5))
    one = leading(torch.ones(5, 3), 9, generator)
    assert one.residual < 1e-5
    assert one.values[0] == pytest.approx(15**0.5)
    with pytest.raises(RankError, match="-1"):
        leading(torch.ones(2, 2), -1, generator)
