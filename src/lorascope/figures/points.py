"""Measurements -> the points of a figure, and those points as a CSV file."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from ..records import Measurement, spreads
from .extent import Extent

__all__ = ["Place", "Point", "as_csv", "gather"]

COLUMNS = ("figure", "panel", "line", "x", "y", "low", "high", "seeds", "scale")


@dataclass(frozen=True)
class Place:
    """Where a measurement belongs.

    Attributes:
        panel, line: their names, as the reader sees them.
        at: what orders the points of a line, e.g. the rank.
        x: where on the axis; None where a failed measurement does not say.
    """

    panel: str
    line: str
    at: float
    x: float | None


@dataclass(frozen=True)
class Point:
    """A median over seeds, and the spread around it.

    Attributes:
        panel, line: their names.
        x: NaN where all failed and nothing says where they belong.
        y, low, high: median, least and greatest value; NaN where all failed, infinite where so many diverged.
        seeds: how many values there are.
    """

    panel: str
    line: str
    x: float
    y: float
    low: float
    high: float
    seeds: int


def gather(source: Extent, metric: str, place: Callable[[Measurement], Place | None]) -> list[Point]:
    """The points of one metric, line by line from left to right.

    Args:
        source: the records.
        metric: which.
        place: where a measurement belongs; None: nowhere. Of several x at one place the median is taken.

    Cost O(n log n) for n measurements.
    """
    where: dict[tuple[str, str, float], list[float]] = {}

    def key(one: Measurement) -> tuple[str, str, float] | None:
        found = place(one)
        if found is None:
            return None
        some = where.setdefault((found.panel, found.line, found.at), [])
        if found.x is not None:
            some.append(found.x)
        return found.panel, found.line, found.at

    every = spreads(source.found, metric, key)
    lines = {at[:2]: rank for rank, at in enumerate(dict.fromkeys(at[:2] for at in every))}
    # a line's points together, in the order in which lines are met
    order = sorted(every, key=lambda at: (_first(lines, at), at[2]))
    return [
        Point(
            at[0], at[1], median(where[at]) if where[at] else math.nan, every[at].median, every[at].quantile(0),
            every[at].quantile(1), len(every[at].values),
        )
        for at in order
    ]  # fmt: skip


def _first(lines: dict[tuple[str, str], int], at: tuple[str, str, float]) -> int:
    return lines[at[0], at[1]]


def as_csv(figure: str, scale: str, points: Sequence[Point]) -> str:
    """One line a point, with columns figure, panel, line, x, y, low, high, seeds, scale; a point drawn twice is once.

    Numbers are written so that reading them gives the same ones; nan and inf are words.

    >>> print(as_csv("linear", "smoke", [Point("random", "stable (ours)", 1, 0.5, 0.25, 1.0, 3)]), end="")
    figure,panel,line,x,y,low,high,seeds,scale
    linear,random,stable (ours),1,0.5,0.25,1.0,3,smoke
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in dict.fromkeys(points):
        x = int(one.x) if math.isfinite(one.x) and one.x == int(one.x) else one.x
        writer.writerow((figure, one.panel, one.line, x, one.y, one.low, one.high, one.seeds, scale))
    return text.getvalue()
