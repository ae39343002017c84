"""What rounding can do to a group of layers, and the affine map the group is where its hidden ReLUs are active."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..shapes import Float
from .domain import Region
from .relaxation import Trace

__all__ = ["AffineMap", "affine_map", "layer_rounding", "trace_rounding"]


@dataclass(frozen=True)
class AffineMap:
    """What a group does to its region: ``z -> matrix z + offset`` up to ``rounding``; whether that is certain."""

    matrix: Float[Tensor, "out inp"]
    offset: Float[Tensor, " out"]
    rounding: float
    active: bool


def affine_map(
    weights: list[Float[Tensor, "_ _"]],
    biases: list[Float[Tensor, " _"]],
    out: int,
    region: Region,
    relu: bool,
    eps: float,
) -> AffineMap:
    """Product and offset of a group, with bounds on what rounding and an inactive unit could do to them.

    Args:
        weights, biases: of the group, in float64.
        out: outputs that count; those beyond must be off for the map to be certain.
        region: of the inputs.
        relu: whether a ReLU follows every layer.
        eps: of the dtype that the network computes in.
    """
    depth = len(weights)
    combined = torch.eye(weights[0].shape[1], dtype=torch.float64, device=weights[0].device)
    offset = combined.new_zeros(len(combined))
    carried: list[tuple[float, Tensor]] = []  # rounding made at a layer, product of the layers since
    moduli, active = region.largest_moduli(), True
    double = torch.finfo(torch.float64).eps
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        size = weight.shape[1] + 2
        made = size * eps / 2 * (weight.abs() @ moduli + bias.abs())
        # what this function itself rounds when it forms the product and the offset
        passed = combined.abs() @ region.largest_moduli() + offset.abs()
        computed = size * double / 2 * (weight.abs() @ passed + bias.abs())
        carried = [(amount, weight @ since) for amount, since in carried]
        carried.append((float(made.norm() + computed.norm()), torch.eye(len(weight)).to(weight)))
        combined, offset = weight @ combined, weight @ offset + bias
        low, high = region.bounds(combined)
        error = _carried(carried)
        if relu and layer < depth - 1:
            active = active and bool((low + offset - error >= 0).all())
        if relu and layer == depth - 1:  # outputs the target does not have must be off
            active = active and bool((high[out:] + offset[out:] + error <= 0).all())
        moduli = torch.maximum((low + offset).abs(), (high + offset).abs()) + error
    return AffineMap(combined, offset, _carried(carried), active)


def layer_rounding(weight: Float[Tensor, "out inp"], bias: Float[Tensor, " out"], region: Region, eps: float) -> float:
    """Euclidean norm of what one layer rounds off, in any order of summation."""
    return 1.01 * (weight.shape[1] + 2) * eps / 2 * float((weight.abs() @ region.largest_moduli() + bias.abs()).norm())


def trace_rounding(trace: Trace, eps: float) -> float:
    """The same for ReLU layers one after another, whatever their ReLUs do."""
    total, moduli = 0.0, trace.start.largest_moduli()
    for layer, (_, high) in zip(trace.layers, trace.ranges, strict=True):
        made = (layer.weight.shape[1] + 2) * eps / 2 * (layer.weight.abs() @ moduli + layer.bias.abs())
        total = float(torch.linalg.matrix_norm(layer.weight, 2)) * total + float(made.norm())
        moduli = high.clamp(min=0) + total
    return 1.01 * total


def _carried(carried: list[tuple[float, Tensor]]) -> float:
    # 1 % covers the products of two rounding errors, left out above
    return 1.01 * sum(amount * float(torch.linalg.matrix_norm(since, 2)) for amount, since in carried)
