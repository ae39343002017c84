"""Figure "convergence": held-out loss against the step of training, for some ranks."""

from collections.abc import Callable
from dataclasses import replace

import polars as pl

from ..records import Measurement
from .extent import extent
from .panels import Picture, draw, panels_of
from .places import pair
from .points import Place, gather

__all__ = ["convergence"]

CURVE = "curve_mse@"


def convergence(table: pl.DataFrame) -> Picture:
    """One panel a depth and kind of frozen network, one line a rank; both axes logarithmic.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``convergence``.
    """
    source = extent(table, "convergence")
    steps = {int(name.removeprefix(CURVE)) for one in source.found for name in one.metrics if name.startswith(CURVE)}
    # a logarithmic axis has no step 0
    points = [point for step in sorted(steps - {0}) for point in gather(source, f"{CURVE}{step}", _at(step))]
    panels = panels_of(points, "step of training", "held-out MSE of the best rates", log=True)
    panels = [replace(panel, log_x=True) for panel in panels]
    return draw(source, "convergence", "LoRA while it is trained", panels)


def _at(step: int) -> Callable[[Measurement], Place | None]:
    return lambda one: Place(pair(one), f"rank {one.rank}", float(step), float(step))
