"""The leading singular triples of a large matrix, without its whole SVD, checked as they come."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import RankError, SpecError
from ..shapes import Float
from .krylov_space import Space, empty_space, extended, fresh_block, next_block

__all__ = ["Leading", "leading"]

_NARROW, _WIDE = 16, 64  # rows of a block; half the rank between them
_ENOUGH = 8  # times the rank (at least a block): the largest space; what is not resolved by then goes the exact way
_SMALL = 4  # times the rank fills the matrix: exact is as fast
_SLOWEST = 0.3  # the next gain's share of the last one, where the last ones promise less: early gains are no guide
_CAUTION = 0.6  # of the accuracy: where nothing decays, gains shrink ever more slowly
_NOTHING = 1e-12  # share of the energy left over that counts as none
_DOUBTFUL = 1e-4  # share below which a difference of energies says nothing
_SLICE = 256  # rows of a residual formed at a time: it stays in the cache


@dataclass(frozen=True)
class Leading:
    """A matrix's best approximation of some rank, as found.

    Attributes:
        left: (out, r), orthonormal columns.
        right: (r, inp), orthogonal rows that carry the singular values, so that ``left @ right`` approximates.
        values: (r,), the singular values, largest first.
        residual: Frobenius norm of what is left over, measured.
        norm: Frobenius norm of the matrix.
        blocks: of the Krylov space; 0 where the exact way was taken.
    """

    left: Float[Tensor, "out r"]
    right: Float[Tensor, "r inp"]
    values: Float[Tensor, " r"]
    residual: float
    norm: float
    blocks: int


def leading(matrix: Float[Tensor, "out inp"], rank: int, generator: torch.Generator, accuracy: float = 1e-3) -> Leading:
    """Best approximation of rank at most ``rank``, its error within ``accuracy`` of the least one.

    ``|M - left right|_F <= (1 + accuracy) |M - LR_r(M)|_F``. A Krylov space of ``M M^T`` grows by blocks narrower than
    the rank until what further blocks would gain, by how fast the gains have shrunk, is below that; then a fresh random
    block looks for directions that the first one could not see (more equal singular values than a block has rows). A
    space that has not settled by eight times the rank gives way to the eigenvectors of the smaller Gram matrix.
    Products run in the matrix's dtype, the small dense problems in float64.

    Args:
        matrix: (out, inp), float32 or float64.
        rank: r.
        generator: draws the blocks; on the CPU.
        accuracy: relative excess of the Frobenius error.

    Returns:
        The factors and the measured residual. Directions of exactly no weight are dropped.

    Raises:
        RankError: a negative rank.
        SpecError: a matrix whose norm is not finite.

    Source: Musco & Musco 2015 (block Krylov iteration); blocks narrower than the rank as in Meyer, Musco & Musco 2024.
    Cost O(out inp k) for a space of dimension k, two to three times the rank as a rule, five where there is no decay.

    >>> m = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    >>> found = leading(m, 2, torch.Generator().manual_seed(0))
    >>> [round(v, 4) for v in found.values.tolist()], round(found.residual, 4)
    ([3.0, 2.0], 1.0)
    """
    if rank < 0:
        raise RankError(f"a rank must not be negative, got {rank}")
    rank = min(rank, *matrix.shape)
    norm = _norm(matrix)
    if not math.isfinite(norm):
        raise SpecError(f"a matrix must have a finite Frobenius norm, got {norm}; look for NaN or infinite entries")
    if rank == 0 or norm == 0:
        return Leading(matrix[:, :0], matrix[:0], matrix.new_zeros(0), norm, norm, 0)
    width = min(max(rank // 2, _NARROW), _WIDE)
    if _SMALL * (rank + _NARROW // 2) < min(matrix.shape):
        space = _settled(matrix, rank, width, generator, accuracy, norm)
        if space is not None:
            return _checked(matrix, *space.leading(rank), norm, space.blocks)
    left, right = _exact(matrix, rank)
    return _checked(matrix, left, right, norm, 0)


def _settled(
    matrix: Tensor, rank: int, width: int, generator: torch.Generator, accuracy: float, norm: float
) -> Space | None:
    """A space that holds the leading directions well enough; None where it would grow too large."""
    space = empty_space(matrix, min(_ENOUGH * max(rank, width), *matrix.shape))
    block = fresh_block(space, width, generator)
    captured, gains = 0.0, list[float]()
    probed: float | None = None  # what was captured when a fresh block was asked for its opinion
    while block is not None and space.size + len(block) <= len(space.basis):
        before, known, space = captured, space.size >= rank, extended(space, block)
        values = torch.linalg.eigvalsh(space.gram)
        captured = float(values[-rank:].sum())
        # the second is what the difference of two near equal numbers hides
        left_over = max(norm**2 - captured, float(values[:-rank].clamp(min=0).sum()))
        allowed = 2 * _CAUTION * accuracy * left_over  # twice: of squares
        agreed = left_over <= _NOTHING * norm**2 or (probed is not None and captured - probed <= allowed)
        if agreed and space.size >= rank:
            return space
        gains = [*gains, captured - before] if known and probed is None else []
        settled = len(gains) > 1 and _ahead(gains) <= allowed
        block, probed = None if settled else next_block(space), None
        if block is None:  # settled or invariant, which need not be the leading space
            block, gains, probed = fresh_block(space, _NARROW, generator), [], captured
    # nothing is left beyond the space, or no room in it
    return space if block is None else None


def _ahead(gains: list[float]) -> float:
    """What all further blocks would gain, for the gains shrink geometrically."""
    shrink = max(gains[-1] / gains[-2], _SLOWEST) if gains[-2] > 0 else _SLOWEST
    return gains[-1] * shrink / (1 - shrink) if shrink < 1 else math.inf


def _norm(matrix: Tensor) -> float:
    """Frobenius norm, summed over rows in float64 without a copy of the matrix."""
    return float(torch.linalg.vector_norm(torch.linalg.vector_norm(matrix, dim=1).double()))


def _exact(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """From the eigenvectors of the smaller Gram matrix; projecting keeps the accuracy that squaring would lose."""
    wide = matrix.shape[0] <= matrix.shape[1]
    short = (matrix if wide else matrix.T).double()
    vectors = torch.linalg.eigh(short @ short.T)[1][:, -rank:].flip(1)
    if wide:
        left = vectors.to(matrix.dtype)
        return left, left.T @ matrix
    # (inp, r) directions: turn the images into orthonormal columns
    left, triangle = torch.linalg.qr(matrix @ vectors.to(matrix.dtype))
    return left, triangle @ vectors.to(matrix.dtype).T


def _checked(matrix: Tensor, left: Tensor, right: Tensor, norm: float, blocks: int) -> Leading:
    """Turn the factors to singular directions, measure what they leave over."""
    values, turn = torch.linalg.eigh(right.double() @ right.double().T)
    order = values.argsort(descending=True)
    order = order[values[order] > 0]
    turn = turn[:, order].to(matrix.dtype)
    left, right = left @ turn, turn.T @ right
    captured = float(right.double().pow(2).sum())
    rest = norm**2 - captured
    if rest < _DOUBTFUL * norm**2:
        slices = zip(matrix.split(_SLICE), left.split(_SLICE), strict=True)
        rest = math.fsum(_norm(torch.addmm(rows, part, right, alpha=-1)) ** 2 for rows, part in slices)
    return Leading(left, right, values[order].sqrt().to(matrix.dtype), math.sqrt(max(rest, 0.0)), norm, blocks)
