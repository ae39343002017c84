"""Figure "linear": error against rank for linear networks, where the closed form is the optimum (Lemma 1)."""

import polars as pl

from .extent import extent
from .panels import Picture, draw, panels_of
from .places import by_rank, frozen
from .points import gather

__all__ = ["linear"]


def linear(table: pl.DataFrame) -> Picture:
    """One panel a kind of frozen network, one line a method.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``linear``.
    """
    source = extent(table, "linear")
    points = gather(source, "test_mse", by_rank(frozen))
    return draw(source, "linear", "Linear networks: one layer from two", panels_of(points))
