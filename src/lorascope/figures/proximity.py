"""Figure "proximity": the nearer the frozen network is to the target, the less rank and error remain."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import polars as pl

from ..records import Measurement
from .axes import Panel
from .extent import extent
from .panels import EXACT, Picture, draw
from .points import Place, gather
from .style import LineStyle, method_name

__all__ = ["proximity"]

ENOUGH = 1e-3  # of the error
RANKS, NEEDED = "rank that it takes", "for exactness"
STYLES = {
    NEEDED: LineStyle("#d55e00", ":", "D", size=5),
    "enough: gradient (Adam LoRA)": LineStyle("#000000", "--", "o"),
    "enough: refined (ours)": LineStyle("#0072b2", "-", "s", filled=True, size=3.8),
}


def proximity(table: pl.DataFrame) -> Picture:
    """Rank on the left, errors by rank beside it, all against the untouched frozen network's own error.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``proximity``.
    """
    source = extent(table, "proximity")
    enough = replace(source, found=tuple(_least_ranks(source.found)))
    # the rank needed is the networks' own, whatever adapts them: of one method's cells
    alone = replace(enough, found=tuple(_of(enough.found, source.found[0].method)))
    ranks = [*gather(alone, "rank_needed", _at(RANKS, NEEDED)), *gather(enough, "least_rank", _least)]
    distance = "test MSE of the untouched frozen network"
    panels = [Panel(RANKS, ranks, distance, "rank", log_x=True, metric="")]
    for method in dict.fromkeys(one.method for one in source.found):
        title = f"{method_name(method)}, by rank"
        points = gather(replace(source, found=tuple(_of(source.found, method))), "test_mse", _at(title, None))
        panels.append(Panel(title, points, distance, log=True, log_x=True, metric="", floor=EXACT))
    title = "Frozen networks nearer to and farther from the target"
    note = f"Enough: test MSE of at most {ENOUGH:g}, infinite where no rank that was tried is."
    return draw(source, "proximity", title, panels, len(panels), 2.9, STYLES, note)


def _of(found: Sequence[Measurement], method: str) -> Iterator[Measurement]:
    return (one for one in found if one.method == method)


def _at(panel: str, name: str | None) -> Callable[[Measurement], Place | None]:
    """By level of training, from the nearest on; the distance is what that level gave."""
    return lambda one: Place(panel, name or f"rank {one.rank}", _level(one), one.metrics.get("frozen_mse"))


def _least(one: Measurement) -> Place:
    return Place(RANKS, f"enough: {method_name(one.method)}", _level(one), one.metrics["frozen_mse"])


def _level(one: Measurement) -> float:
    return float(one.spec.get("pretrain", {}).get("level", 1.0))


def _least_ranks(found: Sequence[Measurement]) -> Iterator[Measurement]:
    """For each cell the least rank whose error is small enough, infinite where none is."""
    cells: dict[tuple[str, str], list[Measurement]] = {}
    for one in found:
        if one.rank is not None and {"test_mse", "frozen_mse"} <= one.metrics.keys():
            cells.setdefault((one.cell, one.method), []).append(one)
    for some in cells.values():
        least = min((float(one.rank or 0) for one in some if one.metrics["test_mse"] <= ENOUGH), default=math.inf)
        yield replace(some[0], rank=None, metrics={**some[0].metrics, "least_rank": least})
