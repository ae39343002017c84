"""Figure "proximity": the nearer the frozen network is to the target, the less rank and error remain."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import polars as pl

from ..records import Measurement
from .axes import Panel
from .extent import extent
from .panels import EXACT, Picture, draw, panels_of
from .places import Words, line
from .points import Place, gather
from .style import LineStyle

__all__ = ["proximity"]

RANKS, NEEDED = "rank that it takes", "rank for exactness"
STYLES = {
    NEEDED: LineStyle("#d55e00", ":", "D", size=5),
    "rank enough: gradient (Adam LoRA)": LineStyle("#000000", "--", "o"),
    "rank enough: refined (ours)": LineStyle("#0072b2", "-", "s", filled=True, size=3.8),
}


def proximity(table: pl.DataFrame) -> Picture:
    """Rank on the left, errors by rank beside it, all against the untouched frozen network's own error.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``proximity``.
    """
    source = extent(table, "proximity")
    where = {one.cell: one.metrics["frozen_mse"] for one in source.found if "frozen_mse" in one.metrics}
    # the rank needed is the networks' own, whatever adapts them: of one method's cells
    alone = replace(source, found=tuple(_of(source.found, source.found[0].method)))
    ranks = gather(alone, "rank_needed", _at(where, lambda _: RANKS, lambda _: NEEDED))
    ranks += gather(source, "rank_enough", _at(where, lambda _: RANKS, lambda one: f"rank enough: {line(one)}"))
    errors = gather(source, "test_mse", _at(where, lambda one: f"{line(one)}, by rank", lambda one: f"rank {one.rank}"))
    distance = "test MSE of the untouched frozen network"
    panels = [Panel(RANKS, ranks, distance, "rank"), *panels_of(errors, distance, log=True, floor=EXACT)]
    panels = [replace(panel, log_x=True, metric="") for panel in panels]
    enough = sorted({float(one.spec["enough"]) for one in source.found if "enough" in one.spec})
    note = f"Enough: test MSE of at most {enough[0]:g}, infinite where no rank that was tried is." if enough else ""
    title = "Frozen networks nearer to and farther from the target"
    return draw(source, "proximity", title, panels, len(panels), 2.9, STYLES, note)


def _of(found: Sequence[Measurement], method: str) -> Iterator[Measurement]:
    return (one for one in found if one.method == method)


def _at(where: Mapping[str, float], panel: Words, of: Words) -> Callable[[Measurement], Place]:
    """By level of training; the distance is what that level gave."""
    return lambda one: Place(panel(one), of(one), _level(one), where.get(one.cell))


def _level(one: Measurement) -> float:
    return float(one.spec.get("pretrain", {}).get("level", 1.0))
