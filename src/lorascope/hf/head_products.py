"""The products of attention that the theory compares, head by head, without forming them."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..linalg import tolerance
from ..shapes import Float
from .attention import Attention
from .spectrum import Spectrum, noise_floor

__all__ = ["HeadGap", "head_gaps", "product_gap"]

Product = Literal["query-key", "value-output"]


@dataclass(frozen=True)
class HeadGap:
    """One head's difference of ``W_K^T W_Q`` or of ``W_O W_V``.

    Attributes:
        product: which of the two.
        head: of the queries; keys and values are its group's.
        relative: Frobenius norm of the difference over that of the base's product.
        spectrum: of the difference.
    """

    product: Product
    head: int
    relative: float
    spectrum: Spectrum

    @property
    def needed(self) -> int:
        """Rank of both matrices' adapters that closes this gap exactly, by Theorem 7: half the gap's, rounded up."""
        return math.ceil(self.spectrum.exact_rank / 2)


def product_gap(
    given: tuple[Float[Tensor, "mid inp"], Float[Tensor, "out mid"]],
    wanted: tuple[Float[Tensor, "mid inp"], Float[Tensor, "out mid"]],
) -> tuple[Float[Tensor, " k"], float, float]:
    """Singular values of ``B' A' - B A``, its norm and that of ``B A``, from factors of the base and the tuned model.

    ``[B' B] [A'; -A]`` has rank at most ``2 mid``: QR of both sides leaves a matrix of that size.

    Args:
        given: ``A, B`` of the base.
        wanted: ``A', B'`` of the tuned model.

    Cost O((out + inp) mid^2).
    """
    left = torch.linalg.qr(torch.cat([wanted[1], given[1]], dim=1))[1]
    right = torch.linalg.qr(torch.cat([wanted[0], -given[0]]).T)[1]
    values = torch.linalg.svdvals(left @ right.T)
    base = torch.linalg.matrix_norm(torch.linalg.qr(given[1])[1] @ torch.linalg.qr(given[0].T)[1].T)
    return values, float(torch.linalg.vector_norm(values)), float(base)


def head_gaps(attention: Attention) -> list[HeadGap]:
    """Both products of every head of one attention.

    Rotary embeddings act between queries and keys; the product at equal positions is the one compared. Biases and norms
    inside the attention are not part of it.

    Cost O(heads width head_dim^2), four matrices in memory.
    """
    gaps: list[HeadGap] = []
    products: tuple[Product, ...] = ("query-key", "value-output")
    for product in products:
        first, second = attention.factors(product)
        loaded = first.values(), second.values()
        types = [(part.pair.base_dtype or part.pair.tuned_dtype, part.pair.tuned_dtype) for part in (first, second)]
        for head in range(attention.heads):
            factors = [
                (_rows(a, attention, product, head), _second(b, attention, product, head))
                for a, b in zip(*loaded, strict=True)
            ]
            values, norm, base = product_gap(*factors)
            (a, b), (a_new, b_new) = factors
            # to first order: rounding of either factor, carried through the other
            floor = _top(b_new) * noise_floor(a, a_new, types[0]) + _top(a_new) * noise_floor(b, b_new, types[1])
            level = tolerance(max(a.shape[1], b.shape[0]), _top(a_new) * _top(b_new) + _top(a) * _top(b))
            exact = int((values > level).sum())
            relative = norm / base if base else math.inf
            gaps.append(HeadGap(product, head, relative, Spectrum(values, norm, floor, True, exact)))
    return gaps


def _rows(matrix: Tensor, attention: Attention, product: Product, head: int) -> Tensor:
    """A query's or a value's rows: (head_dim, in)."""
    index = head if product == "query-key" else head * attention.groups // attention.heads
    return matrix[index * attention.head_dim : (index + 1) * attention.head_dim]


def _second(matrix: Tensor, attention: Attention, product: Product, head: int) -> Tensor:
    """A key's rows, transposed, or an output's columns: (out, head_dim)."""
    if product == "value-output":
        return matrix[:, head * attention.head_dim : (head + 1) * attention.head_dim]
    index = head * attention.groups // attention.heads
    return matrix[index * attention.head_dim : (index + 1) * attention.head_dim].T


def _top(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))
