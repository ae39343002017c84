"""Figure "methods": several ways to adapt, by how much each trains."""

from dataclasses import replace

import polars as pl

from ..records import Measurement
from .extent import extent
from .panels import Picture, draw, panels_of
from .places import line, pair, parameters, rank
from .points import Place, gather

__all__ = ["methods"]


def methods(table: pl.DataFrame) -> Picture:
    """One panel a depth and kind of frozen network, one line a way to adapt; both axes logarithmic.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``methods``.
    """
    source = extent(table, "methods")
    panels = panels_of(gather(source, "test_mse", _place), "trained weights and biases", log=True)
    return draw(
        source, "methods", "Ways to adapt, by what they train", [replace(panel, log_x=True) for panel in panels]
    )


def _place(one: Measurement) -> Place:
    return Place(pair(one), line(one), one.spec.get("layers", rank(one)), parameters(one, biases=True))
