"""Figure "depth": LoRA on deeper and deeper frozen networks, one target layer each."""

from collections.abc import Callable

import polars as pl

from ..records import Measurement
from .axes import Panel
from .extent import extent
from .panels import RANK, Picture, draw
from .places import rank
from .points import Place, gather

__all__ = ["depth"]

BY_RANK, BY_DEPTH = "some depths, against rank", "some ranks, against depth"


def depth(table: pl.DataFrame) -> Picture:
    """Error against rank for some depths on the left, against depth for some ranks on the right.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``depth``.
    """
    source = extent(table, "depth")
    depths = _some({int(one.spec["frozen_depth"]) for one in source.found}, (2, 4, 8, 14))
    ranks = _some({one.rank or 0 for one in source.found}, (1, 2, 4, 8, 16))
    panels = [
        Panel(BY_RANK, gather(source, "test_mse", _by_rank(depths)), RANK, log=True),
        Panel(BY_DEPTH, gather(source, "test_mse", _by_depth(ranks)), "layers of the frozen network", log=True),
    ]
    return draw(source, "depth", "LoRA on deeper and deeper frozen networks", panels)


def _by_rank(depths: set[int]) -> Callable[[Measurement], Place | None]:
    def place(one: Measurement) -> Place | None:
        depth = one.spec["frozen_depth"]
        return Place(BY_RANK, f"{depth} layers", rank(one), rank(one)) if depth in depths else None

    return place


def _by_depth(ranks: set[int]) -> Callable[[Measurement], Place | None]:
    def place(one: Measurement) -> Place | None:
        depth = float(one.spec["frozen_depth"])
        return Place(BY_DEPTH, f"rank {one.rank}", depth, depth) if (one.rank or 0) in ranks else None

    return place


def _some(present: set[int], preferred: tuple[int, ...]) -> set[int]:
    """Few enough to be told apart."""
    return present if len(present) <= len(preferred) else present & set(preferred) or present
