"""Two networks side by side, stage by stage: where their values lie, and how far they can be apart."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..linalg import tolerance
from .domain import Domain, Region, contains, region_of
from .relaxation import Layer, Trace, apart, begin, extended, lipschitz, trace_of
from .rounding import AffineMap, layer_rounding, trace_rounding

__all__ = ["Walk", "affine_step", "kept_step", "set_out", "totals"]

# Error, in units of its rounding, from which on looking at both networks as a whole may improve on it.
WORTHWHILE = 1e3


@dataclass
class Walk:
    """What is known before a stage; ``own`` is the adapted network's, the rest the target's."""

    start: Region
    own_region: Region
    region: Region
    own_samples: Tensor | None
    samples: Tensor | None
    own_eps: float
    eps: float
    clean: bool = True  # the adapted network's outputs beyond the target's are 0
    error: float = 0.0
    expected: float = 0.0
    rounding: float = 0.0
    own_made: float = 0.0  # what rounding did to each network by itself
    made: float = 0.0
    measured: bool = False  # the expected error rests on running the adapted network, not on moments alone
    own_layers: list[Layer] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    traces: tuple[Trace, Trace] | None = None


def set_out(
    domain: Domain, width: int, inputs: int, like: Tensor, eps: float, target_eps: float, samples: Tensor | None
) -> Walk:
    """Before the first stage; samples count where all of them lie in the domain."""
    start = region_of(domain, width, inputs, like)
    hidden = None if samples is None else samples[:, :inputs].double()
    hidden = hidden if hidden is not None and contains(domain, hidden) else None
    own_hidden = None if hidden is None else _padded(hidden, width)
    return Walk(start, start, _head(start, inputs), own_hidden, hidden, eps, target_eps)


def affine_step(walk: Walk, group: AffineMap, layer: Layer, relu: bool) -> None:
    """A group that is an affine map on its region, and the target's layer that it imitates."""
    out, inp = layer.weight.shape
    if walk.clean:
        goal, own_region, region = layer.weight, _head(walk.own_region, inp), walk.region
        own_hidden = None if walk.own_samples is None else walk.own_samples[:, :inp]
        hidden = walk.samples
    else:
        wide = group.matrix.shape[1]
        goal, own_region, region = _padded(layer.weight, wide), walk.own_region, _padded_region(walk.region, wide)
        own_hidden = walk.own_samples
        hidden = None if walk.samples is None else _padded(walk.samples, wide)
    matrix, offset = group.matrix[:out, : goal.shape[1]], group.offset[:out]
    difference, shift = matrix - goal, offset - layer.bias
    made = layer_rounding(layer.weight, layer.bias, walk.region, walk.eps)
    fresh = group.rounding + made
    gain, goal_gain = (float(torch.linalg.matrix_norm(m, 2)) for m in (matrix, layer.weight))
    walk.error = fresh + min(
        gain * walk.error + region.largest_norm(difference, shift),
        goal_gain * walk.error + own_region.largest_norm(difference, shift),
    )
    walk.rounding = gain * walk.rounding + fresh
    if hidden is not None and own_hidden is not None:
        # the samples' activations are known up to rounding
        size = float(difference.norm())
        strays = [2 * size * walk.made, 2 * size * walk.own_made]
        means = [float((z @ difference.T + shift).square().sum(1).mean().sqrt()) for z in (hidden, own_hidden)]
        walk.expected = fresh + min(
            gain * walk.expected + means[0] + strays[0], goal_gain * walk.expected + means[1] + strays[1]
        )
    walk.own_made, walk.made = gain * walk.own_made + group.rounding, goal_gain * walk.made + made
    walk.own_region = _inflated(walk.own_region.affine(group.matrix, group.offset), group.rounding)
    walk.region = _inflated(walk.region.affine(layer.weight, layer.bias), made)
    if relu:
        walk.own_region, walk.region = walk.own_region.relu(), walk.region.relu()
    walk.own_layers.append(Layer(group.matrix, group.offset))
    walk.layers.append(layer)
    _advance_samples(walk, walk.own_layers[-1:], [layer], relu)
    walk.clean = True
    if relu:
        _look_at_all(walk)


def kept_step(walk: Walk, layers: list[Layer], goals: list[Layer]) -> None:
    """A group of ReLU layers of which nothing is known, and the target's layers that it imitates."""
    width, out = layers[0].weight.shape[1], len(layers[-1].bias)
    wide = _padded_region(walk.region, width)
    wide_goals = [replace(goals[0], weight=_padded(goals[0].weight, width)), *goals[1:]]
    own, goal = trace_of(layers, walk.own_region), trace_of(wide_goals, wide)
    hull = _hull(walk.own_region, wide)
    gain, goal_gain = lipschitz(layers, trace_of(layers, hull).ranges), lipschitz(goals)
    own_made, made = trace_rounding(own, walk.own_eps), trace_rounding(goal, walk.eps)
    fresh = own_made + made
    walk.error = fresh + min(
        gain * walk.error + apart(trace_of(layers, wide), goal),
        goal_gain * walk.error + apart(own, trace_of(wide_goals, walk.own_region)),
    )
    walk.rounding = gain * walk.rounding + fresh
    if walk.samples is not None and walk.own_samples is not None:
        stray = 2 * (gain + goal_gain)  # the samples' activations are known up to rounding
        means = [_mean_apart(layers, wide_goals, z) for z in (_padded(walk.samples, width), walk.own_samples)]
        walk.expected = fresh + min(
            gain * walk.expected + means[0] + stray * walk.made,
            goal_gain * walk.expected + means[1] + stray * walk.own_made,
        )
    # the ball shrinks less fast layer by layer than by the group's Lipschitz constant
    radius = min(own.image.radius, lipschitz(layers) * walk.own_region.radius * (1 + 1e-12) + own_made)
    walk.own_region = _inflated(replace(own.image, radius=radius), own_made)
    walk.region = _inflated(_head(goal.image, len(goals[-1].bias)), made)
    walk.own_made, walk.made = gain * walk.own_made + own_made, goal_gain * walk.made + made
    walk.own_layers += layers
    walk.layers += goals
    walk.measured = True
    _advance_samples(walk, layers, goals, True)
    walk.clean = out == len(goals[-1].bias)
    _look_at_all(walk)


def _look_at_all(walk: Walk) -> None:
    """Both networks relaxed from the input on, which keeps what a walk from region to region forgets."""
    made = walk.own_made + walk.made
    if walk.error <= WORTHWHILE * made:
        return
    own, goal = walk.traces or (begin(walk.start), begin(walk.start))
    for layer in walk.own_layers[len(own.layers) :]:
        own = extended(own, layer)
    for layer in walk.layers[len(goal.layers) :]:
        wide = len(goal.moduli)
        goal = extended(goal, replace(layer, weight=_padded(layer.weight, wide)))
    walk.traces = own, goal
    walk.error = min(walk.error, apart(own, goal) + made)
    walk.own_region = _tightened(walk.own_region, own.image, walk.own_made)
    walk.region = _tightened(walk.region, goal.image, walk.made)


def totals(walk: Walk, own: list[Layer], goals: list[Layer]) -> tuple[float, float | None]:
    """Bounds on the error and on its mean over the samples, once all stages are done.

    Args:
        walk: through all stages.
        own, goals: every single layer of either network, for what their norms say.
    """
    error, made = walk.error, walk.own_made + walk.made
    error = min(error, _largest(walk.own_region) + _largest(walk.region))
    if error > WORTHWHILE * made:
        error = min(error, _by_norms(own, _largest(walk.start)) + _by_norms(goals, _largest(walk.start)) + made)
    size = sum(len(layer.bias) + layer.weight.shape[1] for layer in own)
    error *= 1 + tolerance(size)  # what this module rounds in its norms
    return error, min(walk.expected * (1 + tolerance(size)), error) if walk.samples is not None else None


def _by_norms(layers: list[Layer], size: float) -> float:
    for layer in layers:
        size = float(torch.linalg.matrix_norm(layer.weight, 2)) * size + float(layer.bias.norm())
    return size


def _advance_samples(walk: Walk, layers: list[Layer], goals: list[Layer], relu: bool) -> None:
    if walk.samples is None or walk.own_samples is None:
        return
    walk.own_samples = _passed(layers, walk.own_samples, relu)
    walk.samples = _passed(goals, walk.samples, relu)
    if walk.measured:
        apart = walk.own_samples - _padded(walk.samples, walk.own_samples.shape[1])
        mean = float(apart.square().sum(1).mean().sqrt())
        walk.expected = min(walk.expected, mean + 2 * (walk.own_made + walk.made))


def _mean_apart(layers: list[Layer], goals: list[Layer], points: Tensor) -> float:
    """Root mean square over the points."""
    ours, theirs = _passed(layers, points, True), _passed(goals, points, True)
    return float((ours - _padded(theirs, ours.shape[1])).square().sum(1).mean().sqrt())


def _passed(layers: list[Layer], points: Tensor, relu: bool) -> Tensor:
    for layer in layers:
        points = points @ layer.weight.T + layer.bias
        points = points.clamp(min=0) if relu else points
    return points


def _head(region: Region, count: int) -> Region:
    return Region(region.low[:count], region.high[:count], region.centre[:count], region.radius)


def _padded(values: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, width - values.shape[-1]))


def _padded_region(region: Region, width: int) -> Region:
    low, high, centre = (_padded(values, width) for values in (region.low, region.high, region.centre))
    return Region(low, high, centre, region.radius)


def _inflated(region: Region, by: float) -> Region:
    return Region(region.low - by, region.high + by, region.centre, region.radius + by)


def _hull(first: Region, second: Region) -> Region:
    """A region around two; its ball has the first one's centre."""
    radius = max(first.radius, second.radius + float((first.centre - second.centre).norm()))
    return Region(
        torch.minimum(first.low, second.low), torch.maximum(first.high, second.high), first.centre, radius * (1 + 1e-12)
    )


def _tightened(region: Region, other: Region, by: float) -> Region:
    """What both regions have in common, the second one widened: both boxes, the smaller ball."""
    other = _inflated(other, by)
    best = region if region.radius <= other.radius else other
    low, high = torch.maximum(region.low, other.low), torch.minimum(region.high, other.high)
    return Region(low, high, best.centre, best.radius)


def _largest(region: Region) -> float:
    return min(float(region.largest_moduli().norm()), float(region.centre.norm()) + region.radius)
