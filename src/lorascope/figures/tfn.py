"""Figure "tfn": error against rank for transformers (Theorem 7)."""

import polars as pl

from .extent import extent
from .panels import EXACT, Picture, draw, panels_of
from .places import by_rank, pair
from .points import gather

__all__ = ["tfn"]


def tfn(table: pl.DataFrame) -> Picture:
    """One panel a depth and kind of frozen network, one line a method.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``tfn``.
    """
    source = extent(table, "tfn")
    points = gather(source, "test_mse", by_rank(pair))
    return draw(source, "tfn", "Transformers of the target's own depth", panels_of(points, log=True, floor=EXACT))
