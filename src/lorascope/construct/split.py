"""The paper's own adapters: one block of singular triplets a layer."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import AssumptionError
from ..linalg import prefixes, product, svd, tolerance
from ..shapes import Float
from .factors import Factors

__all__ = ["split"]


def split(
    weights: Float[Tensor, "depth width width"],
    correction: Float[Tensor, "width width"],
    ranks: Sequence[int],
    rank: int,
    theorem: str = "Lemma 1",
) -> Factors:
    """Adapters whose l-th telescoping term is the l-th block of singular triplets of ``correction = E``.

    ``D_l = (W_L...W_{l+1})^{-1} E V_l V_l^T (adapted W_{l-1}...W_1)^{-1}``, with solves where the paper has inverses.

    Args:
        weights: frozen factors, first one acting first.
        correction: ``goal - product``; only its leading ``sum(ranks)`` singular triplets are used.
        ranks: one per factor.
        rank: of the correction; triplets beyond it are rounding.
        theorem: named in the error.

    Raises:
        AssumptionError: a frozen weight, or an adapted partial product, is singular to working precision.

    Source: Zeng & Lee 2024, Lemma 1 (proof). Cost O(depth width^3).
    """
    _, _, directions = svd(correction)
    for weight in weights:
        _require_regular(weight, theorem, "the least singular value of a frozen weight, relative to its largest,")
    total = product(list(weights))
    seen = torch.zeros_like(correction)
    left, right, start = [], [], 0
    before = prefixes(weights)[0]
    for layer, most in enumerate(ranks):
        block = directions[start : min(start + most, rank)]
        done, start = start, min(start + most, rank)
        b = correction @ block.T
        for weight in weights[layer + 1 :].flip(0):
            b = torch.linalg.solve(weight, b)
        _require_regular(total + seen, theorem, f"the partial sum product + LR_{done}(E), relative to its norm,")
        a = torch.linalg.solve(before, block, left=False)
        left.append(b)
        right.append(a)
        before = (weights[layer] + b @ a) @ before
        seen = seen + (correction @ block.T) @ block
    return Factors(tuple(left), tuple(right))


def _require_regular(matrix: Tensor, theorem: str, quantity: str) -> None:
    values = torch.linalg.svdvals(matrix)
    relative = float(values[-1] / values[0]) if float(values[0]) > 0 else 0.0
    least = tolerance(len(values))
    if relative <= least:
        raise AssumptionError(theorem, quantity, relative, least)
