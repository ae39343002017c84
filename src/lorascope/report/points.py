"""Medians over seeds, as the pages' scripts draw them before any filter."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .charts import Chart
from .fields import Fields, finite

__all__ = ["Curve", "curves", "natural", "once_a_cell"]

Place = float | str  # on the axis
FIRST = ("paper", "medium", "smoke", "random", "pretrained")  # where words have an order


@dataclass(frozen=True)
class Curve:
    """One line of one panel.

    Attributes:
        panel: the values of the chart's panel fields.
        line: its name; ``series`` the series' label.
        points: place on the axis (a number or a word), median, number of runs.
    """

    panel: tuple[str, ...]
    line: str
    series: str
    points: tuple[tuple[Place, float, int], ...]


def curves(chart: Chart, rows: Sequence[Fields]) -> list[Curve]:
    """A chart's lines; values that are no numbers count as infinite, infinite medians are left out.

    Cost O(points log points).
    """
    found: dict[tuple[tuple[str, ...], str, str], dict[object, list[tuple[Place, float]]]] = {}
    for row in once_a_cell(rows) if chart.once else rows:
        panel = tuple(str(row.get(name, "")) for name in chart.panel)
        for one in chart.series:
            line = one.label if chart.line == "series" else str(row.get(chart.line, ""))
            for x, value in _places(chart, one.field, row):
                groups = found.setdefault((panel, line, one.label), {})
                groups.setdefault(row.get(chart.group, x), []).append((x, math.inf if math.isnan(value) else value))
    made = [Curve(*key, _medians(list(groups.values()), chart)) for key, groups in found.items()]
    return sorted(made, key=lambda curve: ([natural(word) for word in curve.panel], natural(curve.line)))


def natural(word: str) -> list[tuple[int, int, str]]:
    """Sorts words as a reader would.

    >>> sorted(["rank 16", "rank 4", "pretrained", "random"], key=natural)
    ['random', 'pretrained', 'rank 4', 'rank 16']
    """
    if word in FIRST:
        return [(0, FIRST.index(word), "")]
    return [(1, int(part), "") if part.isdecimal() else (2, 0, part) for part in re.split(r"(\d+)", word) if part]


def once_a_cell(rows: Sequence[Fields]) -> list[Fields]:
    """The first run of each cell that gave a result."""
    first: dict[str, Fields] = {}
    for row in rows:
        if row["status"] == "ok":
            first.setdefault(row["cell"], row)
    return list(first.values())


def _places(chart: Chart, field: str, row: Fields) -> list[tuple[Place, float]]:
    if chart.kind == "curve":
        return list(zip(*row["curve"], strict=True)) if "curve" in row else []
    if chart.x.field not in row or field not in row:
        return []
    return [(row[chart.x.field], row[field])]


def _medians(groups: Sequence[Sequence[tuple[Place, float]]], chart: Chart) -> tuple[tuple[Place, float, int], ...]:
    points: list[tuple[Place, float, int]] = []
    for group in groups:
        places, values = [x for x, _ in group], [value for _, value in group]
        numbers = [x for x in places if not isinstance(x, str)]
        middle = median(values)
        if finite(middle):
            points.append((median(numbers) if numbers else places[0], middle, len(values)))
    return tuple(points if chart.x.kind == "category" else sorted(points, key=lambda point: float(point[0])))
