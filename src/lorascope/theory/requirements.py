"""What singular factors ask of their adapters: ranks that parts of a product must have, whatever the rest does."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..linalg import numerical_rank
from ..shapes import Float

__all__ = ["Requirement", "singular_requirements"]


@dataclass(frozen=True)
class Requirement:
    """The adapters of factors ``start..stop-1`` need ranks that add up to ``rank``.

    Attributes:
        start, stop: factors, counted from 0.
        rank: the least sum.
        tail: with ranks that add up to r < ``rank``, no adapters get below the spectral error ``tail[r]``.
        reason: in words.
    """

    start: int
    stop: int
    rank: int
    tail: Float[Tensor, " _"]
    reason: str

    def least_error(self, total: int) -> float:
        """Spectral error forced where the ranks add up to ``total``."""
        return float(self.tail[total]) if total < self.rank else 0.0


def singular_requirements(
    weights: Float[Tensor, "n width width"],
    left: Float[Tensor, "m width"],
    right: Float[Tensor, "width k"],
    wanted: Float[Tensor, "m k"],
    dtype: torch.dtype,
) -> list[Requirement]:
    """Requirements of ``left @ (W_n + D_n) ... (W_1 + D_1) @ right = wanted``; none where all factors are non-singular.

    A run of factors of rank k gets at most rank ``k + sum R``, so neither does the product. Where the factors from one
    on reach only part of the outputs, the rest of ``wanted`` has to come from their adapters: ``rank(N^T wanted)``
    with N the left null space of ``left W_n ... W_a``; likewise for inputs that the first factors lose.

    Source: new; extends the telescoping lower bound of Zeng & Lee 2024, Lemma 1. Cost O(n^2 width^3).
    """
    width, count = weights.shape[-1], len(weights)
    ranks = [numerical_rank(weight, dtype=dtype).rank for weight in weights]
    if min(ranks) == width:
        return []
    found = _runs(weights, ranks, wanted, dtype)
    seen = left
    for start in range(count - 1, -1, -1):
        seen = seen @ weights[start]
        missed = (
            _null_space(seen.T, _sylvester(ranks[start:], width) + min(left.shape) - width, count, dtype).T @ wanted
        )
        found += _missing(missed, start, count, "outputs out of reach", dtype)
    seen = right
    for stop in range(1, count + 1):
        seen = weights[stop - 1] @ seen
        least = _sylvester(ranks[:stop], width) + min(right.shape) - width
        lost = wanted @ _null_space(seen, least, count, dtype)
        found += _missing(lost, 0, stop, "inputs lost", dtype)
    return found


def _runs(weights: Tensor, ranks: Sequence[int], wanted: Tensor, dtype: torch.dtype) -> list[Requirement]:
    target, values = numerical_rank(wanted, dtype=dtype).rank, torch.linalg.svdvals(wanted)
    found = []
    for start in range(len(ranks)):
        chain = weights[start]
        for stop in range(start + 1, len(ranks) + 1):
            chain = chain if stop == start + 1 else weights[stop - 1] @ chain
            counted = numerical_rank(chain, terms=stop - start, dtype=dtype).rank
            reached = max(counted, _sylvester(ranks[start:stop], weights.shape[-1]))
            if reached < target:
                reason = f"rank {reached}, wanted {target}"
                found.append(Requirement(start, stop, target - reached, values[reached:], reason))
    return found


def _missing(part: Tensor, start: int, stop: int, reason: str, dtype: torch.dtype) -> list[Requirement]:
    if 0 in part.shape:
        return []
    rank = numerical_rank(part, scale=1.0, dtype=dtype).rank
    words = f"{reason}: rank {rank} of what is wanted"
    return [Requirement(start, stop, rank, torch.linalg.svdvals(part), words)] if rank else []


def _null_space(matrix: Tensor, least: int, terms: int, dtype: torch.dtype) -> Tensor:
    """Orthonormal columns v with ``matrix @ v = 0``; ``least`` is a rank the matrix is known to have."""
    rank = max(least, numerical_rank(matrix, terms=terms, dtype=dtype).rank)
    return torch.linalg.svd(matrix).Vh[rank:].T


def _sylvester(ranks: Sequence[int], width: int) -> int:
    """Least rank of a product of such factors; holds where the product is too ill-conditioned to count."""
    return sum(ranks) - (len(ranks) - 1) * width
