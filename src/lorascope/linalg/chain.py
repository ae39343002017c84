"""Products of matrices in the order a network applies them: ``weights[0]`` acts first."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..shapes import Float

__all__ = ["norm_product", "prefixes", "product", "suffixes"]


def product(weights: Sequence[Float[Tensor, "_ _"]]) -> Float[Tensor, "_ _"]:
    """``W_L ... W_1`` for ``weights = [W_1, ..., W_L]``; at least one factor.

    >>> first, second = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> product([first, second]).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    result = weights[0]
    for weight in weights[1:]:
        result = weight @ result
    return result


def prefixes(weights: Float[Tensor, "depth width width"]) -> Float[Tensor, "depth+1 width width"]:
    """``P_l = W_l ... W_1`` for ``l = 0..L``, with ``P_0 = I``."""
    result = [torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)]
    for weight in weights:
        result.append(weight @ result[-1])
    return torch.stack(result)


def suffixes(weights: Float[Tensor, "depth width width"]) -> Float[Tensor, "depth+1 width width"]:
    """``S_l = W_L ... W_{l+1}`` for ``l = 0..L``, with ``S_L = I``."""
    result = [torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)]
    for weight in reversed(weights):
        result.append(result[-1] @ weight)
    return torch.stack(result[::-1])


def norm_product(weights: Sequence[Float[Tensor, "_ _"]]) -> float:
    """Product of the spectral norms, the scale of the rounding in ``product(weights)``."""
    result = 1.0
    for weight in weights:
        result *= float(torch.linalg.matrix_norm(weight.double(), 2))
    return result
