"""The error between any two FNNs of the same inputs."""

from dataclasses import replace

import torch
from torch import Tensor

from ..errors import ShapeError, SpecError
from ..models import FNN
from ..shapes import Float
from ..theory import Partition, uniform_partition
from .domain import Domain
from .fnn_certificate import FNNBounds, Stage, bound_fnn
from .relaxation import Layer
from .walk import kept_step, set_out, totals

__all__ = ["bound_networks"]


def bound_networks(
    model: FNN,
    target: FNN,
    domain: Domain,
    partition: Partition | None = None,
    samples: Float[Tensor, "samples inp"] | None = None,
) -> FNNBounds:
    """``sup ||f(x) - fbar(x)||_2`` over the domain, and its root mean square over samples, bounded for any two FNNs.

    Args:
        model: f, adapted in whatever way, merged.
        target: fbar, of the same activation, with at most as many inputs and outputs; any depth. Missing inputs of the
            target are held at 0, missing outputs count as 0.
        domain: of the target's inputs.
        partition: groups of consecutive layers of the model, counted from 0, one for each target layer that it
            imitates; None where no structure is known: the uniform partition, where there is one. The networks are
            compared group by group and as wholes, and the smaller bound is taken.
        samples: (number, inputs), for the expected error: measured on them, with what rounding may do to it added;
            the recursion of :func:`bound_fnn` where that is less. So it speaks of these samples alone, while what
            ``bound_fnn`` says of affine groups holds for every distribution with the same moments.

    Returns:
        The bounds. A group counts as linearised where its hidden ReLUs are certainly active on the region that it
        sees, as kept otherwise; ``inactive`` are the kept ones.

    Raises:
        ShapeError: activations, inputs or outputs that do not fit, or a partition that is none.
        SpecError: weights or samples that are not finite.

    Source: as :func:`bound_fnn`. Cost O(depth^2 width^3).

    >>> from lorascope.adaptation import Ball
    >>> same = FNN(3, 2)
    >>> bound_networks(same, same, Ball(1.0), ((0,), (1,))).error < 1e-12
    True
    """
    _check(model, target, samples)
    own, goals = _layers(model), _layers(target)
    eps, target_eps = (torch.finfo(m.linears[0].weight.dtype).eps for m in (model, target))
    values = None if samples is None else samples.detach().to(own[0].weight)
    groups = _groups(own, goals, partition)
    if model.activation == "identity":
        return bound_fnn([_composed(own, goals)], domain, False, eps, target_eps, values)
    whole = _as_wholes(own, goals, domain, eps, target_eps, values)
    if groups is None:
        return whole
    stages = [
        Stage([own[index].weight for index in group], [own[index].bias for index in group], goal.weight, goal.bias)
        for group, goal in zip(groups, goals, strict=True)
    ]
    found = bound_fnn(stages, domain, True, eps, target_eps, values)
    error = min(found.error, whole.error)
    expected = None
    if found.expected is not None and whole.expected is not None:
        expected = min(found.expected, whole.expected, error)
    return replace(found, error=error, expected=expected, rounding=min(found.rounding, error))


def _as_wholes(
    own: list[Layer], goals: list[Layer], domain: Domain, eps: float, target_eps: float, samples: Tensor | None
) -> FNNBounds:
    walk = set_out(domain, own[0].weight.shape[1], goals[0].weight.shape[1], own[0].weight, eps, target_eps, samples)
    kept_step(walk, own, goals)
    error, expected = totals(walk, own, goals)
    wanted = _composed(own, goals).goal
    product = own[0].weight
    for layer in own[1:]:
        product = layer.weight @ product
    size = float(wanted.norm())
    residual = float((product[:, : wanted.shape[1]] - wanted).norm()) / (size if size > 0 else 1.0)
    return FNNBounds(error, expected, min(walk.rounding, error), residual, (0,))


def _layers(model: FNN) -> list[Layer]:
    weights = [layer.weight.detach().double() for layer in model.linears]
    biases = [
        weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double()
        for layer, weight in zip(model.linears, weights, strict=True)
    ]
    return [Layer(weight, bias) for weight, bias in zip(weights, biases, strict=True)]


def _composed(own: list[Layer], goals: list[Layer]) -> Stage:
    """All layers as one group; the target's product, with zeros for the outputs that it does not have."""
    matrix, offset = goals[0].weight, goals[0].bias
    for layer in goals[1:]:
        matrix, offset = layer.weight @ matrix, layer.weight @ offset + layer.bias
    extra = len(own[-1].bias) - len(offset)
    matrix, offset = torch.nn.functional.pad(matrix, (0, 0, 0, extra)), torch.nn.functional.pad(offset, (0, extra))
    return Stage([layer.weight for layer in own], [layer.bias for layer in own], matrix, offset)


def _groups(own: list[Layer], goals: list[Layer], partition: Partition | None) -> Partition | None:
    """The groups to compare by: those given, or uniform ones; None where the networks have no such groups."""
    groups = partition
    if partition is None:
        if len(goals) > len(own):
            return None
        groups = uniform_partition(len(own), len(goals))
    elif len(partition) != len(goals) or [layer for group in partition for layer in group] != list(range(len(own))):
        raise ShapeError(
            f"partition must be {len(goals)} groups of consecutive layers, together 0 to {len(own) - 1}, "
            f"got {partition}"
        )
    assert groups is not None
    fits = all(group and len(goal.bias) <= len(own[group[-1]].bias) for group, goal in zip(groups, goals, strict=True))
    if not fits and partition is not None:
        raise ShapeError(f"a group of {partition} is empty or has fewer outputs than the target's layer")
    return groups if fits else None


def _check(model: FNN, target: FNN, samples: Tensor | None) -> None:
    for role, network in (("model", model), ("target", target)):
        if not isinstance(network, FNN):
            raise ShapeError(f"{role} must be an FNN, got {type(network).__name__}")
        if not all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters()):
            raise SpecError(f"{role} must have finite weights")
    if model.activation != target.activation:
        raise ShapeError(f"both networks must share their activation, got {model.activation} and {target.activation}")
    (inp, out), (target_inp, target_out) = (
        (network.linears[0].weight.shape[1], network.linears[-1].weight.shape[0]) for network in (model, target)
    )
    if target_inp > inp or target_out > out:
        raise ShapeError(
            f"the target must have at most the model's {inp} inputs and {out} outputs, "
            f"got {target_inp} and {target_out}"
        )
    if samples is None:
        return
    if samples.ndim != 2 or samples.shape[1] not in (inp, target_inp):
        raise ShapeError(f"samples must be (number, {target_inp}), got {tuple(samples.shape)}")
    if samples.numel() == 0 or not bool(torch.isfinite(samples).all()):
        raise SpecError(f"samples must be finite and at least one, got shape {tuple(samples.shape)}")
