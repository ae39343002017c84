"""Figure "certificates": what is certified of an adapted network, and what is measured of it."""

from collections.abc import Callable

import polars as pl

from ..records import Measurement
from .extent import extent
from .panels import Picture, draw, panels_of
from .places import line, pair, rank
from .points import Place, gather
from .style import LineStyle, method_name

__all__ = ["certificates"]

LINES = {
    "error_bound": "largest error: certified for every input",
    "attacked_error": "largest error: found by ascent on the input",
    "largest_error": "largest error: of the test inputs",
    "expected_error_bound": "mean error: certified",
    "mean_error": "mean error: of the test inputs",
}
STYLES = {
    "largest error: certified for every input": LineStyle("#d55e00", "--", "o", size=6),
    "largest error: found by ascent on the input": LineStyle("#000000", "-.", "X", filled=True, size=5.5),
    "largest error: of the test inputs": LineStyle("#d55e00", "-", "o", filled=True, size=4.5),
    "mean error: certified": LineStyle("#0072b2", "--", "s", size=4.5),
    "mean error: of the test inputs": LineStyle("#0072b2", "-", "s", filled=True, size=3.5),
}


def certificates(table: pl.DataFrame) -> Picture:
    """One row a method, one column a depth and kind of frozen network; from the mean error up to its certified bound.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``certificates``.
    """
    source = extent(table, "certificates")
    metrics = {name for one in source.found for name in one.metrics}
    points = [point for metric in LINES if metric in metrics for point in gather(source, metric, _place(metric))]
    every = {panel.title: panel for panel in panels_of(points, y="output error", log=True)}
    # a row a method, and in it a column a depth
    titles = sorted(every, key=lambda title: _order(title.partition(": ")[0]))
    columns = len({title.partition(": ")[2] for title in titles})
    panels = [every[title] for title in titles]
    note = "Errors are Euclidean norms of the difference of the outputs."
    return draw(source, "certificates", "Errors and their certified bounds", panels, columns, styles=STYLES, note=note)


def _order(name: str) -> int:
    names = [method_name(method) for method in ("stable", "refined", "gradient")]
    return names.index(name) if name in names else len(names)


def _place(metric: str) -> Callable[[Measurement], Place | None]:
    return lambda one: Place(f"{line(one)}: {pair(one)}", LINES[metric], rank(one), rank(one))
