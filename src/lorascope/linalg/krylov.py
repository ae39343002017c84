"""The leading singular triples of a large matrix, without its whole SVD, checked as they come."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import RankError
from ..shapes import Float
from .tolerance import tolerance

__all__ = ["Leading", "leading"]

_EXTRA = 8  # columns of a block beyond the rank
_BLOCKS = 12  # at most; a spectrum that is not resolved by then takes the exact way
_SMALL = 4  # blocks of which fill the matrix: exact is as fast
_SLOWEST = 0.3  # the next gain's share of the last one, where the last ones promise less: early gains are no guide
_NOTHING = 1e-12  # share of the energy left over that counts as none


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

    ``|M - left right|_F <= (1 + accuracy) |M - LR_r(M)|_F``. A block Krylov space of ``M M^T`` grows until what another
    block would gain, by how fast the gains have shrunk, is below that; else the eigenvectors of the smaller Gram matrix
    decide. Products run in the matrix's dtype, the small dense problems in float64.

    Args:
        matrix: (out, inp), float32 or float64.
        rank: r.
        generator: draws the first block; on the CPU.
        accuracy: relative excess of the Frobenius error.

    Returns:
        The factors and the measured residual. Directions of exactly no weight are dropped.

    Raises:
        RankError: a negative rank.

    Source: Musco & Musco 2015 (block Krylov iteration). Cost O(out inp (r + 8) blocks), three to five blocks as a rule.

    >>> m = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    >>> found = leading(m, 2, torch.Generator().manual_seed(0))
    >>> [round(v, 4) for v in found.values.tolist()], round(found.residual, 4)
    ([3.0, 2.0], 1.0)
    """
    if rank < 0:
        raise RankError(f"a rank must not be negative, got {rank}")
    rank = min(rank, *matrix.shape)
    norm = _norm(matrix)
    if rank == 0 or norm == 0:
        return Leading(matrix[:, :0], matrix[:0], matrix.new_zeros(0), norm, norm, 0)
    space = None
    if _SMALL * (rank + _EXTRA) < min(matrix.shape):
        space = _space(matrix, rank, generator, accuracy, norm)
    if space is None:
        left, right = _exact(matrix, rank)
        return _checked(matrix, left, right, norm, 0)
    basis, images, vectors = space
    left = basis @ vectors
    return _checked(matrix, left, vectors.T @ images, norm, images.shape[0] // (rank + _EXTRA))


def _space(
    matrix: Tensor, rank: int, generator: torch.Generator, accuracy: float, norm: float
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Orthonormal basis, its images under the matrix's transpose (rows), and the leading directions inside it."""
    width = rank + _EXTRA
    draws = torch.randn(matrix.shape[1], width, generator=generator, dtype=matrix.dtype)
    block = torch.linalg.qr(matrix @ draws.to(matrix.device))[0]
    basis, images = block, block.T @ matrix
    gram = images.double() @ images.double().T
    before, gain = 0.0, 0.0
    for count in range(1, min(_BLOCKS, min(matrix.shape) // width) + 1):
        values, vectors = torch.linalg.eigh(gram)
        captured = float(values[-rank:].sum())
        left_over = max(norm**2 - captured, 0.0)
        shrink = max((captured - before) / gain, _SLOWEST) if gain > 0 else _SLOWEST
        gain, before = captured - before, captured
        # gains shrink geometrically: what all further blocks would add
        ahead = gain * shrink / (1 - shrink) if shrink < 1 else math.inf
        found = basis, images, vectors[:, -rank:].flip(1).to(matrix.dtype)
        if left_over <= _NOTHING * norm**2 or (count > 2 and ahead <= 2 * accuracy * left_over):
            return found
        block = matrix @ images[-width:].T
        scale = torch.linalg.vector_norm(block)
        block -= basis @ (basis.T @ block)
        if torch.linalg.vector_norm(block) <= tolerance(1, float(scale), dtype=matrix.dtype):
            return found  # no direction leads out of the space
        block = torch.linalg.qr(block)[0]
        block = torch.linalg.qr(block - basis @ (basis.T @ block))[0]  # once is not enough in floating point
        basis = torch.cat([basis, block], dim=1)
        images = torch.cat([images, block.T @ matrix])
        new = images.double() @ images[-width:].double().T
        gram = torch.cat([torch.cat([gram, new[:-width]], dim=1), new.T])
    return None


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
    if rest < 1e-4 * norm**2:  # the difference of two near equal numbers says nothing: form the residual
        rest = _norm(matrix - left @ right) ** 2
    return Leading(left, right, values[order].sqrt().to(matrix.dtype), math.sqrt(max(rest, 0.0)), norm, blocks)
