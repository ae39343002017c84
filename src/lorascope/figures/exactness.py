"""Figure "exactness": what remains of the error at the rank that the theorems ask for, in floating point."""

from dataclasses import replace

import polars as pl

from ..records import Measurement
from .axes import Panel
from .extent import extent
from .panels import Picture, draw, panels_of
from .places import line
from .points import Place, gather

__all__ = ["exactness"]

TRANSFORMERS = "transformers"


def exactness(table: pl.DataFrame) -> Picture:
    """Relative errors above, the norms of the updates beneath; one column a kind of network and number format.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``exactness``.
    """
    source = extent(table, "exactness")
    panels: list[Panel] = []
    for metric, label in (("relative_error", "relative error"), ("largest_update", "largest norm of an update")):
        found = panels_of(gather(source, metric, _place), y=label, log=True)
        # wider numbers first, transformers last
        found.sort(key=lambda panel: (panel.title.startswith(TRANSFORMERS), "float64" not in panel.title))
        panels += [replace(panel, x=_axis(panel.title), metric="") for panel in found]
    columns = len({panel.title for panel in panels})
    widths = sorted({int(one.spec["width"]) for one in source.found})
    note = f"Each point is over all widths ({', '.join(map(str, widths))}) and depths of its place and all seeds."
    title = "Exact adaptation at the rank needed, in floating point"
    return draw(source, "exactness", title, panels, columns, 2.55 if columns > 2 else 3.3, note=note)


def _place(one: Measurement) -> Place:
    spec = one.spec
    kind = TRANSFORMERS if spec["model"] == "transformer" else "ReLU networks"
    # the more layers become one, the worse their product is conditioned
    at = spec["target_depth"] if kind == TRANSFORMERS else spec["frozen_depth"] / spec["target_depth"]
    return Place(f"{kind}, {spec.get('dtype', 'float64')}", line(one), at, at)


def _axis(title: str) -> str:
    return "depth" if title.startswith(TRANSFORMERS) else "frozen layers for each of the target's"
