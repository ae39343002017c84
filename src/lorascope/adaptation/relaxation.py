"""How far two ReLU networks are apart on a region: linear bounds passed back through both of them at once.

A ReLU whose input lies in ``[l, u]`` with ``l < 0 < u`` lies below the chord ``u (p - l) / (u - l)`` and above ``a p``
for every ``a`` in [0, 1]. Put in for every such unit, last layer first, these turn an output into a linear function of
the input, whose extremes over a box or a ball are known. Differences of two networks are formed before the extremes
are taken, so that what they have in common cancels.

All bounds hold in floating point: each is widened by ``tolerance(terms)`` times what the moduli of all weights make of
the input, with ``terms`` the lengths of all sums behind it; that is at least twice the worst case.
"""

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
class Trace:
    """A network on a region, as far as it has been followed.

    Attributes:
        start, image: where inputs and outputs lie.
        layers: first layer first.
        ranges: least and largest value of each layer's units before their ReLU.
        moduli: what the layers' moduli make of the input's, (out,): the scale of rounding.
        terms: the lengths of all sums so far.
    """

    start: Region
    image: Region
    layers: tuple[Layer, ...]
    ranges: tuple[Range, ...]
    moduli: Float[Tensor, " out"]
    terms: int


def begin(region: Region) -> Trace:
    """The network of no layers."""
    return Trace(region, region, (), (), region.largest_moduli(), 0)


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
    return Trace(
        trace.start, reach.relu(), (*trace.layers, layer), (*trace.ranges, (reach.low, reach.high)), moduli, terms
    )


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
    inner = _difference(before, last.weight, before_other, -other.weight)
    inner = _Spread(inner.matrix, inner.noise, inner.offset + last.bias - other.bias, inner.most, inner.least)
    outer = _difference(first, eye, second, -eye[:, : len(second.moduli)])
    shift = last.bias - other.bias
    gap_low = torch.fmax(torch.fmin(inner.least + shift, torch.zeros_like(shift)), outer.least)
    gap_high = torch.fmin(torch.fmax(inner.most + shift, torch.zeros_like(shift)), outer.most)
    (low, high), (other_low, other_high) = first.ranges[-1], (_padded(v, len(eye)) for v in second.ranges[-1])
    gap_low = torch.fmax(gap_low, low.clamp(min=0) - other_high.clamp(min=0))
    gap_high = torch.fmin(gap_high, high.clamp(min=0) - other_low.clamp(min=0))
    by_rows = float(torch.fmax(gap_low.abs(), gap_high.abs()).norm())
    slack = tolerance(first.terms + second.terms) * (first.moduli + _padded(second.moduli, len(eye)))
    found = [by_rows, inner.norm(first.start), outer.norm(first.start)]
    return min((value for value in found if value == value), default=float("inf")) + float(slack.norm())  # noqa: PLR0124


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
class _Spread:
    """``matrix z + offset + noise s`` with s in [-1, 1]: where a difference lies; and its extremes, row by row."""

    matrix: Tensor
    noise: Tensor
    offset: Tensor
    most: Tensor
    least: Tensor

    def norm(self, region: Region) -> float:
        rows = float(self.noise.abs().sum(1).norm())
        whole = _norm(self.noise) * self.noise.shape[1] ** 0.5 if self.noise.numel() else 0.0
        return region.largest_norm(self.matrix, self.offset) + min(rows, whole)


def _difference(first: Trace, rows: Tensor, second: Trace, other_rows: Tensor) -> _Spread:
    """``rows @ first(z) + other_rows @ second(z)``."""
    region, half = first.start, len(rows)
    matrix, offset = _above(first, torch.cat([rows, -rows]))
    other_matrix, other_offset = _above(second, torch.cat([other_rows, -other_rows]))
    most = region.bounds(matrix + other_matrix)[1] + offset + other_offset
    matrix, offset, noise = _middle(first, rows)
    other_matrix, other_offset, other_noise = _middle(second, other_rows)
    matrix, offset, noise = matrix + other_matrix, offset + other_offset, torch.cat([noise, other_noise], dim=1)
    low, high = region.bounds(matrix)
    wide = noise.abs().sum(1)
    high, low = high + offset + wide, low + offset - wide
    return _Spread(matrix, noise, offset, torch.fmin(most[:half], high), torch.fmax(-most[half:], low))


def _most(trace: Trace, rows: Tensor) -> Tensor:
    """Upper bounds of ``rows @ trace(z)``."""
    matrix, offset = _above(trace, rows)
    middle, shift, noise = _middle(trace, rows)
    return torch.fmin(
        trace.start.bounds(matrix)[1] + offset, trace.start.bounds(middle)[1] + shift + noise.abs().sum(1)
    )


def _above(trace: Trace, rows: Tensor) -> tuple[Tensor, Tensor]:
    """``matrix, offset`` with ``rows @ trace(z) <= matrix z + offset``: of the lines below a ReLU the nearer one."""
    offset = rows.new_zeros(len(rows))
    for layer, (low, high) in zip(reversed(trace.layers), reversed(trace.ranges), strict=True):
        chord, cut = _chord(low, high)
        below = torch.where((low < 0) & (high > 0), (high > -low).to(chord), chord)
        up, down = rows.clamp(min=0), rows.clamp(max=0)
        rows = up * chord + down * below
        offset = offset + up @ cut + rows @ layer.bias
        rows = rows @ layer.weight
    return rows, offset


def _middle(trace: Trace, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``rows @ trace(z)`` lies in ``matrix z + offset + noise s`` with s in [-1, 1]: every ReLU beside its chord."""
    offset, noises = rows.new_zeros(len(rows)), [rows.new_zeros(len(rows), 0)]
    for layer, (low, high) in zip(reversed(trace.layers), reversed(trace.ranges), strict=True):
        chord, cut = _chord(low, high)
        crossing = cut > 0
        noises.append(rows[:, crossing] * (cut[crossing] / 2))
        offset = offset + rows @ (cut / 2)
        rows = rows * chord
        offset = offset + rows @ layer.bias
        rows = rows @ layer.weight
    return rows, offset, torch.cat(noises, dim=1)


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
    return replace(trace, layers=trace.layers[:-1], ranges=trace.ranges[:-1])


def _wide(layer: Layer, out: int) -> Layer:
    extra = out - len(layer.bias)
    return Layer(torch.nn.functional.pad(layer.weight, (0, 0, 0, extra)), _padded(layer.bias, out))


def _padded(values: Tensor, out: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, out - len(values)))


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2)) if matrix.numel() else 0.0
