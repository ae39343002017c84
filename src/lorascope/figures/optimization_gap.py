"""Figure "optimization-gap": what gradient steps find from several starts, beside where they started."""

import polars as pl

from ..records import Measurement
from .extent import extent
from .panels import EXACT, Picture, draw, panels_of
from .places import by_rank, pair
from .points import gather
from .style import LineStyle

__all__ = ["optimization_gap"]

CONSTRUCTION = "the construction, before any step"
STARTS = {
    "zero": "from zero, as LoRA starts",
    "random": "from random adapters",
    "constructed": "from the construction",
}
STYLES = {
    "from zero, as LoRA starts": LineStyle("#000000", "--", "o"),
    "from random adapters": LineStyle("#e69f00", "-.", "D", size=4),
    "from the construction": LineStyle("#0072b2", "-", "s", filled=True, size=3.8),
    CONSTRUCTION: LineStyle("#009e73", ":", "^", size=6.5),
}


def optimization_gap(table: pl.DataFrame) -> Picture:
    """One panel a depth and kind of frozen network, one line a start.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``optimization-gap``.
    """
    source = extent(table, "optimization-gap")
    points = gather(source, "test_mse", by_rank(pair, _line))
    points += [point for point in gather(source, "start_mse", by_rank(pair, _start)) if point.line == CONSTRUCTION]
    title = "Gradient steps from several starts"
    return draw(source, "optimization-gap", title, panels_of(points, log=True, floor=EXACT), styles=STYLES)


def _line(one: Measurement) -> str:
    return STARTS.get(one.spec["start"], f"from {one.spec['start']}")


def _start(one: Measurement) -> str:
    return CONSTRUCTION if one.spec["start"] == "constructed" else ""
