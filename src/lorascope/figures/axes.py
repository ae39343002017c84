"""One pair of axes: its scales and ticks, its lines and the spread around them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from .points import Point
from .style import LineStyle

__all__ = ["LARGEST", "Panel", "abreast", "draw_lines", "dress", "marks"]

FEW = 9  # ticks that have room side by side
BESIDE = 0.6  # of the way to the next named place that lines side by side take
LARGEST = 1e300  # what is beyond counts as infinite: an axis needs numbers above its largest


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: of the panel; the authors' values that name it are drawn in it.
        points: what is drawn.
        x, y: labels of the axes.
        log, log_x: logarithmic axes.
        share: ``y`` is a share, shown from 0 to 100 %.
        names: of places on the x axis, where numbers say less; lines stand side by side at each.
        beyond: what the caption says of arrows at the top, in place of their number.
        metric: of the authors' values that are drawn as well; empty: none.
        floor: of a logarithmic axis; what is below is drawn at its lower edge.
    """

    title: str
    points: Sequence[Point]
    x: str
    y: str = "test MSE"
    log: bool = False
    log_x: bool = False
    share: bool = False
    names: Mapping[float, str] = field(default_factory=dict[float, str])
    beyond: str = ""
    metric: str = "test_mse"
    floor: float = 0.0


def dress(axis: Axes, panel: Panel, beside: Sequence[tuple[float, float]]) -> None:
    """Title, scales, limits and ticks that fit what will be drawn.

    Args:
        axis: to be dressed, still empty.
        panel: what will be drawn. Of the ranges around its medians, a linear axis has those up to three times them.
        beside: (x, y) of what else will be.
    """
    medians = [*((point.x, point.y) for point in panel.points), *beside]
    ends = [end for point in panel.points for end in (point.low, point.high) if _drawn(end)]
    places = [*panel.names, *(x for x, _ in medians)]
    xs = sorted({x for x in places if math.isfinite(x) and (x > 0 or not panel.log_x)}) or [1.0]
    ys = [y for _, y in medians if _drawn(y)]
    axis.set_title(panel.title)
    axis.set_xlabel(panel.x)
    if panel.log:
        _log_y(axis, [max(y, panel.floor) for y in [*ys, *ends] if y > 0], panel.floor)
    elif panel.share:
        axis.set_ylim(max(0.0, math.floor(10 * min([*ys, *ends, 1.0]) - 0.5) / 10), 1.04)
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    else:
        highest = max([*ys, 0.0])
        within = [end for end in ends if end <= 3 * highest or panel.names]
        axis.set_ylim(0, 1.06 * max([highest, *within]) or 1.0)
        axis.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if panel.log_x:
        axis.set_xscale("log")
        axis.set_xlim(xs[0] / 1.25, xs[-1] * 1.25)
        _plain_log_ticks(axis, xs)
    else:
        margin = max(0.04 * ((xs[-1] - xs[0]) or 1.0), BESIDE * _gap(panel) / 2)
        axis.set_xlim(xs[0] - margin, xs[-1] + margin)
        axis.xaxis.set_major_locator(FixedLocator(xs) if panel.names or _fit(xs) else MaxNLocator(8, integer=True))
    if panel.names:
        axis.set_xticks(list(panel.names), list(panel.names.values()))


def abreast(panel: Panel, line: str) -> list[Point]:
    """The points of one line; where places are named, beside those of the others.

    Args:
        panel: all that is drawn in it.
        line: its name.
    """
    lines = list(dict.fromkeys(point.line for point in panel.points))
    aside = BESIDE * _gap(panel) * ((lines.index(line) + 0.5) / len(lines) - 0.5) if line in lines else 0.0
    return [replace(point, x=point.x + aside) for point in panel.points if point.line == line]


def draw_lines(axis: Axes, points: Sequence[Point], style: LineStyle, apart: bool) -> None:
    """Medians joined from left to right with gaps where there are none, and the range of the seeds.

    Args:
        axis: dressed.
        points: of one line.
        style: of it.
        apart: places are named, so that the range is a bar at each, not an area between them.
    """
    low, high = axis.get_ylim()
    # NaN stays NaN
    spans = [(min(max(point.low, low), high), min(max(point.high, low), high)) for point in points]
    xs, lows, highs = [point.x for point in points], [span[0] for span in spans], [span[1] for span in spans]
    if apart:
        axis.vlines(xs, lows, highs, color=style.colour, alpha=0.35, linewidth=2.5, zorder=1)
    else:
        axis.fill_between(xs, lows, highs, color=style.colour, alpha=0.1, linewidth=0, zorder=1)
    marks(axis, [(point.x, point.y) for point in points], style)
    beyond = [x for x, point in zip(xs, points, strict=True) if point.y > LARGEST]
    if beyond:
        axis.plot(
            beyond, [1.0] * len(beyond), "^", transform=axis.get_xaxis_transform(), color=style.colour, markersize=6,
            markerfacecolor=style.colour if style.filled else "white", clip_on=False, zorder=4,
        )  # fmt: skip


def marks(axis: Axes, values: Sequence[tuple[float, float]], style: LineStyle) -> None:
    """A line through (x, y), broken where one of them is not finite; zeros of a logarithmic axis at its lower edge."""
    if not values:
        return
    floor = axis.get_ylim()[0] if axis.get_yscale() == "log" else -math.inf
    left = 0.0 if axis.get_xscale() == "log" else -math.inf
    shown = [(x, max(y, floor)) if left < x < math.inf and _drawn(y) else (math.nan, math.nan) for x, y in values]
    axis.plot(
        [x for x, _ in shown], [y for _, y in shown], linestyle=style.dash, color=style.colour, linewidth=style.width,
        marker=style.marker, markersize=style.size, markerfacecolor=style.colour if style.filled else "white",
        markeredgewidth=min(style.width, 1.0), clip_on=False, zorder=3 if style.width > 1 else 2,
    )  # fmt: skip


def _gap(panel: Panel) -> float:
    """Between named places that are next to each other, at least; 0 where they are not named or one line is alone."""
    if not panel.names or len({point.line for point in panel.points}) == 1:
        return 0.0
    return min((right - left for left, right in pairwise(sorted(panel.names))), default=1.0)


def _log_y(axis: Axes, ys: Sequence[float], floor: float) -> None:
    """Whole decades around all that is above zero, or 1, 2, 3 and 5 where that is few."""
    axis.set_yscale("log")
    low, high = (max(min(ys), 1 / LARGEST), max(ys)) if ys else (1e-16, 1.0)
    if high / low >= 30:
        # floats throughout: integers of many digits are no limits, and beyond the largest float there is no power
        least = low if low == floor else 10.0 ** max(math.floor(math.log10(low) - 0.1), -307)
        axis.set_ylim(least, 10.0 ** min(math.ceil(math.log10(high) + 0.05), 307))
        axis.yaxis.set_major_locator(LogLocator(numticks=7))
    else:
        axis.set_ylim(low / 1.4, high * 1.4)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(_short))
    axis.yaxis.set_minor_locator(NullLocator())


def _plain_log_ticks(axis: Axes, xs: Sequence[float]) -> None:
    every = _fit([math.log(x) for x in xs])
    axis.xaxis.set_major_locator(FixedLocator(xs) if every else LogLocator(subs=_steps(xs)))
    axis.xaxis.set_major_formatter(FuncFormatter(_short))
    axis.xaxis.set_minor_locator(NullLocator())


def _drawn(value: float) -> bool:
    return abs(value) <= LARGEST  # which NaN is not


def _steps(xs: Sequence[float]) -> tuple[float, ...]:
    """Which multiples of a power of ten have room, by how many decades there are."""
    decades = math.log10(xs[-1] / xs[0])
    return (1, 2, 5) if decades < 2.5 else (1,)


def _short(value: float, _place: int | None = None) -> str:
    r"""Few digits, as a power of ten where it is small or large.

    >>> print(_short(1000), _short(0.02), _short(0.0436373), _short(5e-14))
    1000 0.02 0.044 $5\cdot10^{-14}$
    """
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:g}" if value == round(value) else f"{value:.2g}"
    digits, _, power = f"{value:.0e}".partition("e")
    return f"${digits}\\cdot10^{{{int(power)}}}$"


def _fit(xs: Sequence[float]) -> bool:
    """Whether a tick at every place leaves its number room."""
    span = xs[-1] - xs[0]
    return len(xs) <= FEW and all(right - left >= span / 14 for left, right in pairwise(xs))
