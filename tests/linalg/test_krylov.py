"""Leading singular triples without the whole SVD: as good as the best, and what is left over is what is said."""

import pytest
import torch

from lorascope.errors import RankError, SpecError
from lorascope.linalg import krylov, leading

PLACES = torch.arange(1, 401, dtype=torch.float64)
SPECTRA = {
    "flat": torch.ones(400, dtype=torch.float64),
    "root": PLACES**-0.5,
    "power": 1 / PLACES,
    "steps": (PLACES < 12) * 1.0 + 0.01,
    "exponential": torch.exp(-PLACES / 20),
    "one step": (PLACES <= 64) * 1.0 + 0.02 * PLACES**-0.5,  # more equal values than a block has rows
    "two values": (PLACES <= 40) * 1.0 + 0.01,
    "close values": (PLACES <= 40) * 0.5 + 1e-3 * (PLACES <= 40) / PLACES + 0.25,
    "clusters": 0.7 ** ((PLACES - 1) // 20),
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
@pytest.mark.parametrize("rank", [1, 16, 64, 200])
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


@pytest.mark.parametrize("shape", [(1200, 300), (300, 1200), (1000, 1000)])
@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_shapes_and_what_is_said_of_the_residual(shape, decay, generator):
    given = torch.randn(*shape, generator=generator) * torch.arange(1, shape[1] + 1) ** -decay
    found = leading(given, 48, generator)
    values = torch.linalg.svdvals(given.double())
    error = float((given.double() - found.left.double() @ found.right.double()).norm())
    assert error <= 1.001 * float(values[48:].norm())
    assert found.residual == pytest.approx(error, rel=1e-4)
    assert 0 < found.blocks <= 14


def test_a_narrow_block_alone_would_miss_equal_values(generator, monkeypatch):
    """Without a second opinion the space closes over 32 of 40 equal values, and the oracle above has to notice."""
    drawn, follow = krylov.fresh_block, krylov.next_block
    monkeypatch.setattr(krylov, "fresh_block", lambda space, *rest: None if space.size else drawn(space, *rest))
    monkeypatch.setattr(krylov, "next_block", lambda space: None if space.blocks == 2 else follow(space))
    given = matrix("two values", True, generator)
    found = leading(given, 64, generator)
    assert found.residual > 10 * float(torch.linalg.svdvals(given)[64:].norm())


def test_ranks_below_the_one_asked_for(generator):
    """An exact low rank: the directions beyond it are rounding, and the space ends."""
    given = torch.randn(500, 3, generator=generator) @ torch.randn(3, 600, generator=generator)
    for wanted in (3, 10, 100):
        found = leading(given, wanted, generator)
        assert found.residual < 1e-5 * found.norm
        assert torch.allclose(found.values[:3].double(), torch.linalg.svdvals(given.double())[:3], rtol=1e-5)
        assert int((found.values > 1e-4 * found.values[0]).sum()) == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_entries_that_are_no_numbers_are_refused(value, generator):
    given = torch.randn(300, 300, generator=generator)
    given[7, 11] = value
    with pytest.raises(SpecError, match="finite"):
        leading(given, 16, generator)


def test_the_same_draws_give_the_same_bits():
    given = torch.randn(400, 500, generator=torch.Generator().manual_seed(1))
    one, other = (leading(given, 16, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(one.left, other.left)
    assert torch.equal(one.right, other.right)


def test_a_space_that_is_never_resolved_falls_back(generator, monkeypatch):
    monkeypatch.setattr(krylov, "_ENOUGH", 3)
    monkeypatch.setattr(krylov, "_CAUTION", 0.0)
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
