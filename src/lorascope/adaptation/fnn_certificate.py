"""The error of an adapted FNN whose groups of layers act as one affine map each, for every input of a domain."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models import FNN
from ..shapes import Float
from .domain import Ball, Domain, Region, region_of

__all__ = ["FNNBounds", "Stage", "bound_fnn", "stages_of"]


@dataclass(frozen=True)
class Stage:
    """One target layer and the group of adapted layers that imitates it.

    Attributes:
        weights, biases: of the group, merged, in float64.
        goal: (out, inp) weight and
        shift: (out,) bias of the target's layer (of all its layers together, for identity networks).
    """

    weights: list[Float[Tensor, "width width"]]
    biases: list[Float[Tensor, " width"]]
    goal: Float[Tensor, "out inp"]
    shift: Float[Tensor, " out"]


@dataclass(frozen=True)
class FNNBounds:
    """Bounds of an adapted network's error.

    Attributes:
        error: at least the supremum of the error's Euclidean norm over the domain.
        expected: at least its mean over the samples; None where there are none inside the domain.
        rounding: the part of ``error`` that is floating point alone.
        residual: largest relative Frobenius distance of a group's product from its goal (absolute, where that is zero).
        inactive: groups (from 0) in which some hidden ReLU may be inactive, so that only the trivial bound is left.
    """

    error: float
    expected: float | None
    rounding: float
    residual: float
    inactive: tuple[int, ...]


@dataclass(frozen=True)
class _Affine:
    """What a group does to its region: ``z -> matrix z + offset`` up to ``rounding``; whether that is certain."""

    matrix: Tensor
    offset: Tensor
    rounding: float
    active: bool


def bound_fnn(
    stages: list[Stage],
    domain: Domain,
    relu: bool,
    eps: float,
    target_eps: float,
    samples: Float[Tensor, "samples inp"] | None = None,
) -> FNNBounds:
    """Walk through both networks, group by group.

    ``e_i <= |M_i| e_{i-1} + sup |E_i z + d_i| + rounding``, with ``M_i`` the group's map, ``E_i = M_i - Wbar_i`` and z
    in the target's region, or the same with ``|Wbar_i|`` and z in the adapted one's; the smaller is taken. Rounding
    is that of evaluating both networks in any order of summation, and of computing ``M_i`` here.

    Args:
        stages: first layer first.
        domain: of the inputs.
        relu: whether a ReLU follows every layer.
        eps, target_eps: of the dtypes that the adapted and the target network compute in.
        samples: inputs, for the expected error.

    Source: the sharp recursion behind Zeng & Lee 2024, Theorem 5. Cost O(depth^2 width^3).
    """
    width, inputs = stages[0].weights[0].shape[1], stages[0].goal.shape[1]
    start = region_of(domain, width, inputs, stages[0].goal)
    region, target_region = start, _head(start, inputs)
    error = rounding = residual = 0.0
    inactive: list[int] = []
    hidden, expected = _inside(samples, domain, inputs), 0.0
    for index, stage in enumerate(stages):
        out, inp = stage.goal.shape
        group = _affine(stage, region, relu, eps)
        if not group.active:
            inactive.append(index)
        matrix, offset = group.matrix[:out, :inp], group.offset[:out]
        difference, shift = matrix - stage.goal, offset - stage.shift
        target_rounding = _rounding(stage.goal, stage.shift, target_region, target_eps)
        fresh = group.rounding + target_rounding
        gain, target_gain = (float(torch.linalg.matrix_norm(m, 2)) for m in (matrix, stage.goal))
        apart = target_region.largest_norm(difference, shift)
        apart_adapted = _head(region, inp).largest_norm(difference, shift)
        error = min(gain * error + apart, target_gain * error + apart_adapted) + fresh
        rounding = gain * rounding + fresh
        size = float(stage.goal.norm())
        residual = max(residual, float(difference.norm()) / (size if size > 0 else 1.0))
        if hidden is not None:
            apart = (hidden @ difference.T + shift).square().sum(1).mean().sqrt()
            expected = gain * expected + float(apart) + fresh
            hidden = hidden @ stage.goal.T + stage.shift
        region = _inflated(region.affine(group.matrix, group.offset), group.rounding)
        target_region = _inflated(target_region.affine(stage.goal, stage.shift), target_rounding)
        if relu:
            region, target_region = region.relu(), target_region.relu()
            hidden = hidden.clamp(min=0) if hidden is not None else None
    trivial = _largest(region) + _largest(target_region)
    if inactive:
        region = _crude(stages, start, relu)
        error = trivial = _largest(region) + _largest(target_region)
    known = hidden is not None and not inactive
    return FNNBounds(min(error, trivial), expected if known else None, rounding, residual, tuple(inactive))


def _affine(stage: Stage, region: Region, relu: bool, eps: float) -> _Affine:
    """Product and offset of a group, with bounds on what rounding and an inactive unit could do to them."""
    depth, out = len(stage.weights), len(stage.shift)
    combined = torch.eye(stage.weights[0].shape[1], dtype=torch.float64, device=stage.goal.device)
    offset = combined.new_zeros(len(combined))
    carried: list[tuple[float, Tensor]] = []  # rounding made at a layer, product of the layers since
    moduli, active = region.largest_moduli(), True
    double = torch.finfo(torch.float64).eps
    for layer, (weight, bias) in enumerate(zip(stage.weights, stage.biases, strict=True)):
        size = len(weight) + 2
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
    return _Affine(combined, offset, _carried(carried), active)


def _carried(carried: list[tuple[float, Tensor]]) -> float:
    # 1 % covers the products of two rounding errors, left out above
    return 1.01 * sum(amount * float(torch.linalg.matrix_norm(since, 2)) for amount, since in carried)


def _rounding(weight: Tensor, bias: Tensor, region: Region, eps: float) -> float:
    return 1.01 * (weight.shape[1] + 2) * eps / 2 * float((weight.abs() @ region.largest_moduli() + bias.abs()).norm())


def _head(region: Region, count: int) -> Region:
    return Region(region.low[:count], region.high[:count], region.centre[:count], region.radius)


def _inflated(region: Region, by: float) -> Region:
    return Region(region.low - by, region.high + by, region.centre, region.radius + by)


def _largest(region: Region) -> float:
    return min(float(region.largest_moduli().norm()), float(region.centre.norm()) + region.radius)


def _crude(stages: list[Stage], region: Region, relu: bool) -> Region:
    """Layer by layer, without trusting any ReLU to be active."""
    for stage in stages:
        for weight, bias in zip(stage.weights, stage.biases, strict=True):
            region = region.affine(weight, bias)
            region = region.relu() if relu else region
    return region


def _inside(samples: Tensor | None, domain: Domain, inputs: int) -> Tensor | None:
    if samples is None:
        return None
    values = samples[:, :inputs].double()
    if isinstance(domain, Ball):
        fits = (values.norm(dim=1) <= domain.radius).all()
    else:
        low, high = (torch.as_tensor(bound).to(values)[:inputs] for bound in (domain.low, domain.high))
        fits = ((values >= low) & (values <= high)).all()
    return values if fits else None


def stages_of(
    model: FNN, partition: tuple[tuple[int, ...], ...], goals: list[Tensor], shifts: list[Tensor]
) -> list[Stage]:
    """The stages of a merged model."""
    layers = model.linears
    return [
        Stage(
            weights=[layers[index].weight.detach().double() for index in group],
            biases=[
                layers[index].weight.new_zeros(len(layers[index].weight)).double()
                if layers[index].bias is None
                else layers[index].bias.detach().double()
                for index in group
            ],
            goal=goal,
            shift=shift,
        )
        for group, goal, shift in zip(partition, goals, shifts, strict=True)
    ]
