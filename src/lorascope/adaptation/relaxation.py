"""How far two ReLU networks are apart on a region: linear bounds passed back through both of them at once.

A ReLU whose input lies in ``[l, u]`` with ``l < 0 < u`` lies below the chord ``u (p - l) / (u - l)`` and above ``a p``
for every ``a`` in [0, 1]. Put in for every such unit, last layer first, these turn an output into a linear function of
the input, whose extremes over a box or a ball are known. Differences of two networks are formed before the extremes
are taken, so that what they have in common cancels.

All bounds hold in floating point: each is widened by ``tolerance(terms)`` times what the moduli of all weights make of
the input, with ``terms`` the lengths of all sums behind it; that is at least twice the worst case.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..linalg import tolerance
from ..shapes import Float
from .domain import Region

__all__ = ["Layer", "Range", "Trace", "apart", "begin", "extended", "lipschitz", "trace_of"]

Range = tuple[Float[Tensor, " _"], Float[Tensor, " _"]]


@dataclass(frozen=True)
class Layer:
    """``z -> ReLU(weight z + bias)``; weight (out, inp)."""

    weight: Float[Tensor, "out inp"]
    bias: Float[Tensor, " out"]


@dataclass(frozen=True)
class Kink:
    """``ReLU(p) - slope p`` lies in ``[0, height]``, unit by unit, and within ``radius`` of ``centre`` in norm.

    It is 0 for units that do not switch; ``max(slope, 1 - slope)`` is how fast it changes for the others, so that a
    ball of inputs gives a ball, much smaller than the box where there are many units.
    """

    slope: Float[Tensor, " _"]
    height: Float[Tensor, " _"]
    centre: Float[Tensor, " _"]
    radius: float


@dataclass(frozen=True)
class Trace:
    """A network on a region, as far as it has been followed.

    Attributes:
        start, image: where inputs and outputs lie.
        layers: first layer first.
        ranges: least and largest value of each layer's units before their ReLU.
        kinks: what each layer's ReLUs add to their chords.
        moduli: what the layers' moduli make of the input's, (out,): the scale of rounding.
        terms: the lengths of all sums so far.
    """

    start: Region
    image: Region
    layers: tuple[Layer, ...]
    ranges: tuple[Range, ...]
    kinks: tuple["Kink", ...]
    moduli: Float[Tensor, " out"]
    terms: int


def begin(region: Region) -> Trace:
    """The network of no layers."""
    return Trace(region, region, (), (), (), region.largest_moduli(), 0)


def trace_of(layers: list[Layer], region: Region) -> Trace:
    """All layers followed. Cost O(depth^2 width^3)."""
    trace = begin(region)
    for layer in layers:
        trace = extended(trace, layer)
    return trace


def extended(trace: Trace, layer: Layer) -> Trace:
    """One layer more; the tightest of box, ball and linear bounds. Cost O(depth width^3)."""
    moduli = layer.weight.abs() @ trace.moduli + layer.bias.abs()
    terms = trace.terms + layer.weight.shape[1] + 4
    reach = trace.image.affine(layer.weight, layer.bias)
    low, high = reach.low, reach.high
    if trace.layers:
        most = _most(trace, torch.cat([layer.weight, -layer.weight])) + torch.cat([layer.bias, -layer.bias])
        low, high = torch.fmax(low, -most[len(low) :]), torch.fmin(high, most[: len(high)])
    slack = tolerance(terms) * moduli
    reach = Region(low - slack, high + slack, reach.centre, reach.radius + float(slack.norm()))
    kink = _kink(layer, trace.image, reach)
    layers, ranges, kinks = (*trace.layers, layer), (*trace.ranges, (reach.low, reach.high)), (*trace.kinks, kink)
    return Trace(trace.start, reach.relu(), layers, ranges, kinks, moduli, terms)


def _kink(layer: Layer, inputs: Region, reach: Region) -> Kink:
    slope, height = _chord(reach.low, reach.high)
    crossing = height > 0
    rate = torch.where(crossing, torch.maximum(slope, 1 - slope), torch.zeros_like(slope))
    middle = layer.weight @ inputs.centre + layer.bias
    centre = torch.where(crossing, middle.clamp(min=0) - slope * middle, torch.zeros_like(middle))
    return Kink(slope, height, centre, _norm(rate[:, None] * layer.weight) * inputs.radius)


def apart(first: Trace, second: Trace) -> float:
    """Upper bound on the Euclidean norm of ``first(z) - second(z)`` over their common region.

    The smallest of: each output's linear bounds, before the last ReLU (which moves no two values apart) and after it;
    and the spectral norm of the difference of both networks' middle lines, with what the ReLUs may add to it.

    Args:
        first, second: of at least one layer and of one start; the second's outputs may be fewer, the rest count as 0.

    Cost O(depth width^3).
    """
    last, other = first.layers[-1], _wide(second.layers[-1], len(first.moduli))
    eye = torch.eye(len(last.bias)).to(last.bias)
    before, before_other = _shortened(first), _shortened(second)
    inner = _difference(before, last.weight, before_other, -other.weight, last.bias - other.bias)
    zero = torch.zeros_like(last.bias)
    outer = _difference(first, eye, second, -eye[:, : len(second.moduli)], zero)
    gap_low = torch.fmax(torch.fmin(inner.least, zero), outer.least)
    gap_high = torch.fmin(torch.fmax(inner.most, zero), outer.most)
    (low, high), (other_low, other_high) = first.ranges[-1], (_padded(v, len(eye)) for v in second.ranges[-1])
    gap_low = torch.fmax(gap_low, low.clamp(min=0) - other_high.clamp(min=0))
    gap_high = torch.fmin(gap_high, high.clamp(min=0) - other_low.clamp(min=0))
    by_rows = float(torch.fmax(gap_low.abs(), gap_high.abs()).norm())
    slack = tolerance(first.terms + second.terms) * (first.moduli + _padded(second.moduli, len(eye)))
    found = [by_rows, inner.norm, outer.norm]
    return min((value for value in found if not math.isnan(value)), default=math.inf) + float(slack.norm())


def lipschitz(layers: list[Layer] | tuple[Layer, ...], ranges: tuple[Range, ...] | None = None) -> float:
    """Upper bound on the Lipschitz constant (Euclidean norms) between points whose units stay within ``ranges``.

    A ReLU's slope is its middle ``c`` up to ``h``: 1/2 up to 1/2, or known where the sign is. With ``D = C + H^{1/2} S
    H^{1/2}``, ``|S| <= 1``, the product ``W_L D ... D W_1`` is expanded, and each term's norm taken.

    Args:
        layers: first layer first.
        ranges: of the units before their ReLU; None where nothing is known of them.

    Source: for unknown slopes Combettes & Pesquet 2020. Cost O(depth^2 width^3).
    """
    inputs = layers[0].weight.shape[1]
    carried = [(1.0, torch.eye(inputs).to(layers[0].weight))]  # norm before, product of the middle slopes since
    norms = 1.0
    for index, layer in enumerate(layers):
        middle, half = _slopes(ranges[index]) if ranges else (torch.full_like(layer.bias, 0.5),) * 2
        kept = ((middle + half) > 0).to(layer.weight)[:, None] * layer.weight  # units that are off pass nothing on
        norms *= _norm(kept)
        carried = [(size, kept @ since) for size, since in carried]
        if index < len(layers) - 1:
            root = half.sqrt()
            size = min(sum(size * _norm(root[:, None] * since) for size, since in carried), norms)
            carried = [(size, middle[:, None] * since) for size, since in carried]
            carried.append((size, torch.diag(root)))
    total = min(sum(size * _norm(since) for size, since in carried), norms)
    return total * (1 + tolerance(sum(len(layer.bias) + inputs for layer in layers)))


@dataclass(frozen=True)
class _Middle:
    """``matrix z + offset`` and, for each layer on the way, ``rows`` times its kink."""

    matrix: Tensor
    offset: Tensor
    kinks: tuple[tuple[Tensor, Kink], ...]

    def extremes(self, region: Region) -> tuple[Tensor, Tensor]:
        """Row by row; of box and ball what is less on either side, kink by kink."""
        low, high = region.bounds(self.matrix)
        low, high = low + self.offset, high + self.offset
        for rows, kink in self.kinks:
            up, down = rows.clamp(min=0) @ kink.height, rows.clamp(max=0) @ kink.height
            middle, reach = rows @ kink.centre, rows.norm(dim=1) * kink.radius
            low, high = low + torch.fmax(down, middle - reach), high + torch.fmin(up, middle + reach)
        return low, high

    def norm(self, region: Region) -> float:
        """Upper bound on the Euclidean norm: kinks in their boxes all at once, or each in its box or ball."""
        boxed, wide = self.offset, torch.zeros_like(self.offset)
        mixed, spread = self.offset, 0.0
        for rows, kink in self.kinks:
            half, reach = rows.abs() @ kink.height / 2, _norm(rows) * kink.radius
            boxed, wide = boxed + rows @ kink.height / 2, wide + half
            around = reach < float(half.norm())
            mixed = mixed + (rows @ kink.centre if around else rows @ kink.height / 2)
            spread += reach if around else float(half.norm())
        by_boxes = region.largest_norm(self.matrix, boxed) + float(wide.norm())
        return min(by_boxes, region.largest_norm(self.matrix, mixed) + spread)


@dataclass(frozen=True)
class _Spread:
    """Where a difference lies: row by row, and its norm."""

    least: Tensor
    most: Tensor
    norm: float


def _difference(first: Trace, rows: Tensor, second: Trace, other_rows: Tensor, shift: Tensor) -> _Spread:
    """``rows @ first(z) + other_rows @ second(z) + shift``."""
    region, half = first.start, len(rows)
    matrix, offset = _above(first, torch.cat([rows, -rows]))
    other_matrix, other_offset = _above(second, torch.cat([other_rows, -other_rows]))
    most = region.bounds(matrix + other_matrix)[1] + offset + other_offset
    one, other = _middle(first, rows), _middle(second, other_rows)
    both = _Middle(one.matrix + other.matrix, one.offset + other.offset + shift, one.kinks + other.kinks)
    low, high = both.extremes(region)
    most, least = torch.fmin(most[:half] + shift, high), torch.fmax(shift - most[half:], low)
    return _Spread(least, most, both.norm(region))


def _most(trace: Trace, rows: Tensor) -> Tensor:
    """Upper bounds of ``rows @ trace(z)``."""
    matrix, offset = _above(trace, rows)
    return torch.fmin(trace.start.bounds(matrix)[1] + offset, _middle(trace, rows).extremes(trace.start)[1])


def _above(trace: Trace, rows: Tensor) -> tuple[Tensor, Tensor]:
    """``matrix, offset`` with ``rows @ trace(z) <= matrix z + offset``: of the lines below a ReLU the nearer one."""
    offset = rows.new_zeros(len(rows))
    for layer, (low, high), kink in zip(
        reversed(trace.layers), reversed(trace.ranges), reversed(trace.kinks), strict=True
    ):
        below = torch.where((low < 0) & (high > 0), (high > -low).to(low), kink.slope)
        up, down = rows.clamp(min=0), rows.clamp(max=0)
        rows = up * kink.slope + down * below
        offset = offset + up @ kink.height + rows @ layer.bias
        rows = rows @ layer.weight
    return rows, offset


def _middle(trace: Trace, rows: Tensor) -> _Middle:
    """``rows @ trace(z)`` along the chords, and the kinks beside them."""
    offset, kinks = rows.new_zeros(len(rows)), []
    for layer, kink in zip(reversed(trace.layers), reversed(trace.kinks), strict=True):
        kinks.append((rows, kink))
        rows = rows * kink.slope
        offset = offset + rows @ layer.bias
        rows = rows @ layer.weight
    return _Middle(rows, offset, tuple(kinks))


def _chord(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and height at 0 of the line above a ReLU."""
    crossing = (low < 0) & (high > 0)
    slope = torch.where(crossing, high / torch.where(crossing, high - low, torch.ones_like(low)), (low >= 0).to(low))
    return slope, torch.where(crossing, -low * slope, torch.zeros_like(low))


def _slopes(found: Range) -> tuple[Tensor, Tensor]:
    low, high = found
    off, on = (high <= 0).to(low), (low >= 0).to(low)
    on = on * (1 - off)
    return on + 0.5 * (1 - on - off), 0.5 * (1 - on - off)


def _shortened(trace: Trace) -> Trace:
    return replace(trace, layers=trace.layers[:-1], ranges=trace.ranges[:-1], kinks=trace.kinks[:-1])


def _wide(layer: Layer, out: int) -> Layer:
    extra = out - len(layer.bias)
    return Layer(torch.nn.functional.pad(layer.weight, (0, 0, 0, extra)), _padded(layer.bias, out))


def _padded(values: Tensor, out: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, out - len(values)))


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2)) if matrix.numel() else 0.0
