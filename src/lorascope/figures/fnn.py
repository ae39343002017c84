"""Figure "fnn": error against rank for ReLU networks, four frozen layers that become two (Theorem 3)."""

import polars as pl

from .extent import extent
from .panels import Picture, draw, panels_of
from .places import by_rank, frozen
from .points import gather

__all__ = ["fnn"]


def fnn(table: pl.DataFrame) -> Picture:
    """One panel a kind of frozen network, one line a method.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``fnn``.
    """
    source = extent(table, "fnn")
    points = gather(source, "test_mse", by_rank(frozen))
    return draw(source, "fnn", "ReLU networks: two layers from four", panels_of(points))
