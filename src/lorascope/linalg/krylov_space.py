"""A Krylov space of ``M M^T`` that grows block by block, with what it captures of the matrix."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..shapes import Float
from .tolerance import tolerance

__all__ = ["Space", "empty_space", "extended", "fresh_block", "next_block"]

_PASSES = 3  # of orthogonalisation at most: twice is enough unless a block hardly leads out of the space
_LONG = 0.7  # of a row's unit length: what must be left of it by the last pass


@dataclass(frozen=True)
class Space:
    """Orthonormal directions and their images, as rows: the first ``size`` of buffers that spaces share as they grow.

    Attributes:
        matrix: M, (out, inp).
        basis: (most, out).
        images: (most, inp), the basis times M.
        precise: (most, inp), the same in float64.
        gram: (size, size), inner products of the images, float64; its eigenvalues are squares of Ritz values.
        blocks: how many were added.
        last: rows of the newest one.
    """

    matrix: Float[Tensor, "out inp"]
    basis: Float[Tensor, "most out"]
    images: Float[Tensor, "most inp"]
    precise: Float[Tensor, "most inp"]
    gram: Float[Tensor, "size size"]
    blocks: int
    last: int

    @property
    def size(self) -> int:
        return len(self.gram)

    def leading(self, rank: int) -> tuple[Float[Tensor, "out r"], Float[Tensor, "r inp"]]:
        """The best ``left @ right`` of that rank in this space."""
        vectors = torch.linalg.eigh(self.gram)[1][:, -rank:].flip(1).to(self.basis.dtype)
        return (vectors.T @ self.basis[: self.size]).T, vectors.T @ self.images[: self.size]


def empty_space(matrix: Float[Tensor, "out inp"], most: int) -> Space:
    """A space with room for ``most`` directions."""
    out, inp = matrix.shape
    precise = matrix.new_empty(most, inp, dtype=torch.float64)
    gram = precise.new_zeros(0, 0)
    return Space(matrix, matrix.new_empty(most, out), matrix.new_empty(most, inp), precise, gram, 0, 0)


def extended(space: Space, block: Float[Tensor, "width out"]) -> Space:
    """The space with a block's rows too: orthonormal, and orthogonal to what is there.

    Cost O(out inp width + inp size width).
    """
    start, stop = space.size, space.size + len(block)
    space.basis[start:stop] = block
    torch.mm(block, space.matrix, out=space.images[start:stop])
    space.precise[start:stop] = space.images[start:stop]
    new = space.precise[start:stop] @ space.precise[:stop].T
    gram = torch.empty(stop, stop, dtype=new.dtype, device=new.device)
    gram[:start, :start] = space.gram
    gram[start:], gram[:start, start:] = new, new[:, :start].T
    matrix, basis, images, precise = space.matrix, space.basis, space.images, space.precise
    return Space(matrix, basis, images, precise, gram, space.blocks + 1, len(block))


def next_block(space: Space) -> Float[Tensor, "width out"] | None:
    """What ``M M^T`` makes of the newest block beyond the space; None where that is rounding alone."""
    return _beyond(space, space.images[space.size - space.last : space.size] @ space.matrix.T)


def fresh_block(space: Space, width: int, generator: torch.Generator) -> Float[Tensor, "width out"] | None:
    """Directions beyond the space of what is left of M there, the strong ones first; None where nothing is.

    ``M`` times random directions, and ``M M^T`` once more where the space is not empty.
    """
    matrix = space.matrix
    draws = torch.randn(width, matrix.shape[1], generator=generator, dtype=matrix.dtype)
    block = _beyond(space, draws.to(matrix.device) @ matrix.T)
    if block is None or space.size == 0:
        return block
    stronger = _beyond(space, (block @ matrix) @ matrix.T)
    return block if stronger is None else stronger


def _beyond(space: Space, block: Tensor) -> Tensor | None:
    """Rows orthonormal to one another and to the space; None where nothing but rounding is left of them."""
    basis, scale = space.basis[: space.size], float(torch.linalg.vector_norm(block))
    block = block - (block @ basis.T) @ basis
    if float(torch.linalg.vector_norm(block)) <= tolerance(1, scale, dtype=block.dtype):
        return None
    block = torch.linalg.qr(block.T)[0].T
    for _ in range(_PASSES - 1 if space.size else 0):  # once is not enough in floating point
        block = block - (block @ basis.T) @ basis
        shortest = float(torch.linalg.vector_norm(block, dim=1).min())
        block = torch.linalg.qr(block.T)[0].T
        if shortest >= _LONG:
            break
    return block
