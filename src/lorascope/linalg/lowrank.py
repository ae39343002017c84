"""Best low-rank approximation, and numerical rank with its tolerance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..shapes import Float
from .tolerance import tolerance

__all__ = ["NumericalRank", "numerical_rank", "singular_value", "svd", "truncate", "truncate_weighted"]


@dataclass(frozen=True)
class NumericalRank:
    """How many singular values lie above a tolerance, and which.

    Attributes:
        rank: the number of singular values above ``tolerance``.
        tolerance: absolute, in the unit of the singular values.
        above: smallest singular value counted (``inf`` at rank 0).
        below: largest one not counted (0 at full rank).
    """

    rank: int
    tolerance: float
    above: float
    below: float


def svd(
    matrix: Float[Tensor, "out inp"],
) -> tuple[Float[Tensor, "out k"], Float[Tensor, " k"], Float[Tensor, "k inp"]]:
    """Thin SVD with fixed signs: in each left singular vector the entry of largest modulus is positive."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    if left.shape[1] == 0:
        return left, values, right
    peak = left.abs().argmax(dim=0)
    sign = torch.where(left[peak, torch.arange(left.shape[1], device=left.device)] < 0, -1.0, 1.0).to(left)
    return left * sign, values, right * sign[:, None]


def numerical_rank(
    matrix: Float[Tensor, "out inp"], *, scale: float | None = None, terms: int = 1, dtype: torch.dtype | None = None
) -> NumericalRank:
    """Rank of a matrix known up to rounding.

    Args:
        matrix: any shape.
        scale: spectral norm of what the matrix was computed from, at least its own; default its own.
            A difference ``target - product`` carries the rounding of both, so pass the sum of their norms.
        terms: number of rounded operations behind an entry, in units of the matrix side (factors of a product).
        dtype: the type that set the rounding level; default the matrix's own.

    >>> numerical_rank(torch.ones(3, 3, dtype=torch.float64)).rank
    1
    """
    values = torch.linalg.svdvals(matrix.double())
    top = float(values[0]) if values.numel() else 0.0
    level = tolerance(max(*matrix.shape, 1) * terms, max(top, scale or 0.0), dtype=dtype or matrix.dtype)
    kept = values[values > level]
    rest = values[values <= level]
    return NumericalRank(
        rank=len(kept),
        tolerance=level,
        above=float(kept[-1]) if len(kept) else float("inf"),
        below=float(rest[0]) if len(rest) else 0.0,
    )


def singular_value(matrix: Float[Tensor, "out inp"], index: int) -> float:
    """The ``index``-th singular value, counted from 1; 0 beyond the smaller side (as in the paper)."""
    values = torch.linalg.svdvals(matrix)
    return float(values[index - 1]) if index <= len(values) else 0.0


def truncate(matrix: Float[Tensor, "out inp"], rank: int) -> tuple[Float[Tensor, "out r"], Float[Tensor, "r inp"]]:
    """Eckart-Young: factors ``left @ right`` of the best approximation of rank at most ``rank``.

    Both factors carry the square roots of the singular values. Exact zeros are dropped, so ``r`` may be
    smaller than ``rank``. Source: Eckart & Young 1936; ``LR_r`` in Zeng & Lee 2024.
    """
    left, values, right = svd(matrix)
    keep = min(rank, int((values > 0).sum()))
    root = values[:keep].sqrt()
    return left[:, :keep] * root, root[:, None] * right[:keep]


def truncate_weighted(
    matrix: Float[Tensor, "out inp"], moment: Float[Tensor, "inp inp"], rank: int
) -> tuple[Float[Tensor, "out r"], Float[Tensor, "r inp"]]:
    """The rank-``rank`` matrix ``T`` with the least ``E |(matrix - T) x|^2`` when ``E x x^T = moment``.

    ``T = LR_r(matrix C) C^+`` with ``moment = C C^T``; the minimum is the tail ``sum_{i>r} sigma_i(matrix C)^2``.

    Args:
        matrix: (out, inp).
        moment: (inp, inp), symmetric, positive semi-definite; singular is allowed.
        rank: at most this.
    """
    values, vectors = torch.linalg.eigh(moment)
    level = tolerance(len(values), float(values[-1].clamp(min=0)))
    root = values.clamp(min=0).sqrt()
    left, right = truncate((matrix @ vectors) * root, rank)
    inverse = torch.where(values > level, 1 / root.clamp(min=torch.finfo(root.dtype).tiny), 0.0)
    return left, (right * inverse) @ vectors.T
