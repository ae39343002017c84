"""Figure "fnn-depths": error against rank for ReLU networks of two depths, once on each scale."""

import polars as pl

from .extent import extent
from .panels import EXACT, Picture, draw, panels_of
from .places import by_rank, pair
from .points import gather

__all__ = ["fnn_depths"]


def fnn_depths(table: pl.DataFrame) -> Picture:
    """One panel a depth and kind of frozen network; linear errors above, logarithmic ones beneath.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``fnn-depths``.
    """
    source = extent(table, "fnn-depths")
    points = gather(source, "test_mse", by_rank(pair))
    panels = panels_of(points) + panels_of(points, log=True, floor=EXACT)
    return draw(source, "fnn-depths", "ReLU networks of two depths", panels, columns=len(panels) // 2, width=2.55)
