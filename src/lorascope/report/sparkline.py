"""The small picture beside a suite's headline, as SVG that takes the page's colours."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from markupsafe import Markup

from .charts import Chart
from .fields import Fields
from .points import Curve, curves

__all__ = ["sparkline"]

WIDTH, HEIGHT, MARGIN = 180.0, 72.0, 5.0
Place = float | str
Key = TypeVar("Key")


def sparkline(chart: Chart, rows: Sequence[Fields], styles: Mapping[str, Mapping[str, object]]) -> Markup:
    """The medians of the first panel; values below the chart's decades lie on the lower edge.

    Cost O(points log points).
    """
    found = [curve for curve in curves(chart, rows) if curve.points]
    order = list(styles)
    lines = sorted(
        (curve for curve in found if curve.panel == found[0].panel), key=lambda curve: order.index(curve.line)
    )
    places = _places(chart, lines)
    heights = _heights(chart, lines)
    if not places or not heights:
        return Markup("")
    drawn = Markup("").join(
        _line([(places[x], heights[value]) for x, value, _ in line.points], styles.get(line.line, {}), chart)
        for line in lines
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">{}</svg>'
    ).format(f"{WIDTH:g}", f"{HEIGHT:g}", f"{WIDTH:g}", f"{HEIGHT:g}", f"{chart.title}, first panel", drawn)


def _places(chart: Chart, lines: Sequence[Curve]) -> dict[Place, float]:
    values = list(dict.fromkeys(x for line in lines for x, _, _ in line.points))
    if chart.x.kind == "category":
        return _spread({x: float(index) for index, x in enumerate(values)}, WIDTH, False)
    logarithmic = chart.x.kind == "log" or chart.kind == "curve"
    numbers = {x: float(x) for x in values if not logarithmic or float(x) > 0}
    shown = {x: math.log10(number) if logarithmic else number for x, number in numbers.items()}
    lowest = min(shown.values(), default=0.0)
    return _spread({x: shown.get(x, lowest) for x in values}, WIDTH, False)


def _heights(chart: Chart, lines: Sequence[Curve]) -> dict[float, float]:
    values = {value for line in lines for _, value, _ in line.points}
    if not chart.log:
        return _spread({value: value for value in values}, HEIGHT, True)
    positive = [value for value in values if value > 0]
    if not positive:
        return {}
    floor = max(min(positive), max(positive) * 10.0**-chart.decades)
    return _spread({value: math.log10(max(value, floor)) for value in values}, HEIGHT, True)


def _spread(places: Mapping[Key, float], size: float, upwards: bool) -> dict[Key, float]:
    if not places:
        return {}
    low, high = min(places.values()), max(places.values())
    share = {key: (place - low) / (high - low) if high > low else 0.5 for key, place in places.items()}
    return {key: MARGIN + (size - 2 * MARGIN) * (1 - one if upwards else one) for key, one in share.items()}


def _line(points: Sequence[tuple[float, float]], style: Mapping[str, object], chart: Chart) -> Markup:
    colour = style.get("colour")
    stroke = f"var(--c{colour})" if colour is not None else f"var(--r{round(4 * float(str(style.get('ramp', 0))))})"
    dots = Markup("").join(
        Markup('<circle cx="{}" cy="{}" r="1.8"/>').format(f"{x:.1f}", f"{y:.1f}") for x, y in points
    )
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    joined = Markup("") if chart.kind == "points" else Markup('<polyline points="{}"/>').format(path)
    return Markup('<g style="--stroke:{}">{}{}</g>').format(stroke, joined, dots if chart.kind != "curve" else "")
