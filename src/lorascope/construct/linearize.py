"""Biases that keep hidden ReLUs active on a whole region, so that a group of layers acts as one affine map."""

import torch
from torch import Tensor

from ..adaptation import Region
from ..shapes import Float

__all__ = ["linearizing_biases"]

# How far above zero the hidden values are kept, relative to 1 + their range: more than the worst case of rounding can
# take away in deep groups, little enough to cost no digits.
MARGIN = {torch.float64: 0.01, torch.float32: 0.1}


def linearizing_biases(
    weights: list[Float[Tensor, "width width"]],
    goal: Float[Tensor, " out"],
    region: Region,
    dtype: torch.dtype,
) -> tuple[list[Float[Tensor, " width"]], Region]:
    """Biases with which adapted ReLU layers compute ``ReLU(W_m ... W_1 z + goal)`` for every z of the region.

    With ``B_k = W_k ... W_1``: ``c_k = -min_z (B_k z) + margin``, ``b_k = c_k - W_k c_{k-1}``, and the last bias takes
    the offset off again. Offsets are centred anew at every layer, so they never compound. Outputs beyond ``goal``'s
    length are switched off: their bias keeps them below zero on the region.

    Args:
        weights: adapted, first layer first.
        goal: bias of the map wanted, (out,) with out at most the width.
        region: of the inputs.
        dtype: the biases are rounded to it, and each later one makes up for the rounding of those before.

    Returns:
        The biases (in float64, but representable in ``dtype``) and the region of the outputs.

    Source: Zeng & Lee 2024, Lemma 2 (linearisation), which takes one bias for all units from a sample.
    """
    margin = MARGIN.get(dtype, MARGIN[torch.float32])
    combined = torch.eye(weights[0].shape[1], dtype=goal.dtype, device=goal.device)
    offset = goal.new_zeros(weights[0].shape[1])
    biases = []
    for weight in weights[:-1]:
        combined = weight @ combined
        low, _ = region.bounds(combined)
        biases.append(_rounded(-low + margin * (1 + low.abs()) - weight @ offset, dtype))
        offset = weight @ offset + biases[-1]
    combined = weights[-1] @ combined
    _, high = region.bounds(combined)
    wanted = -high - margin * (1 + high.abs())
    wanted[: len(goal)] = goal
    biases.append(_rounded(wanted - weights[-1] @ offset, dtype))
    return biases, region.affine(combined, weights[-1] @ offset + biases[-1]).relu()


def _rounded(bias: Tensor, dtype: torch.dtype) -> Tensor:
    return bias.to(dtype).double()
