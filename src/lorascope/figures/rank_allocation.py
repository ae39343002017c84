"""Figure "rank-allocation": one total rank, spread over the layers in several ways."""

from dataclasses import replace

import polars as pl

from ..records import Measurement
from .extent import extent
from .panels import Picture, draw, panels_of
from .places import frozen, line
from .points import Place, gather

__all__ = ["rank_allocation"]


def rank_allocation(table: pl.DataFrame) -> Picture:
    """One panel a kind of frozen network; allocations in order of how fast the rank grows with the layer.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``rank-allocation``.
    """
    source = extent(table, "rank-allocation")
    points = gather(source, "test_mse", _place)
    names = {_slope(one): "\n".join(str(rank) for rank in one.spec["allocation"]) for one in source.found}
    panels = [replace(panel, names=names) for panel in panels_of(points, "ranks of the layers, first above", log=True)]
    return draw(source, "rank-allocation", "One total rank, spread over the layers", panels)


def _place(one: Measurement) -> Place:
    return Place(frozen(one), line(one), _slope(one), _slope(one))


def _slope(one: Measurement) -> float:
    """Growth of the rank from one layer to the next, on average."""
    ranks = one.spec["allocation"]
    return (ranks[-1] - ranks[0]) / max(len(ranks) - 1, 1)
