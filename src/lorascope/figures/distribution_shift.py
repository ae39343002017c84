"""Figure "distribution-shift": test inputs from N(0, I), as in training, and five times as large."""

from collections.abc import Callable
from dataclasses import replace

import polars as pl

from ..records import Measurement
from .extent import Extent, extent
from .panels import EXACT, Picture, draw, panels_of
from .places import line, pair, rank
from .points import Place, Point, gather
from .style import line_styles

__all__ = ["distribution_shift"]

SHIFTED = ", shifted inputs"


def distribution_shift(table: pl.DataFrame) -> Picture:
    """Errors above, accuracy beneath, one column a depth; hollow marks for inputs as in training.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``distribution-shift``.
    """
    source = extent(table, "distribution-shift")
    error, share = _both(source, "test_mse", "regression"), _both(source, "test_accuracy", "binary")
    panels = panels_of(error, log=True, floor=EXACT)
    panels += [replace(panel, share=True, metric="test_accuracy") for panel in panels_of(share, y="test accuracy")]
    lines = dict.fromkeys(point.line for point in [*error, *share])
    usual = line_styles(line for line in lines if not line.endswith(SHIFTED))
    other = {line + SHIFTED: replace(style, filled=not style.filled, width=0.9) for line, style in usual.items()}
    return draw(source, "distribution-shift", "Test inputs unlike those of training", panels, styles=usual | other)


def _both(source: Extent, metric: str, task: str) -> list[Point]:
    return [*gather(source, metric, _place(task)), *gather(source, f"{metric}_shifted", _place(task, SHIFTED))]


def _place(task: str, suffix: str = "") -> Callable[[Measurement], Place | None]:
    def place(one: Measurement) -> Place | None:
        if one.spec.get("task", "regression") != task:
            return None
        return Place(pair(one), line(one) + suffix, rank(one), rank(one))

    return place
