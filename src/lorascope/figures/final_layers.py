"""Figure "final-layers": LoRA against tuning the last layers whole, by what each trains (Lemma 4)."""

import polars as pl

from ..records import Measurement
from .extent import extent
from .panels import Picture, draw, panels_of
from .places import frozen, line, parameters, rank
from .points import Place, gather

__all__ = ["final_layers"]


def final_layers(table: pl.DataFrame) -> Picture:
    """One panel a kind of frozen network, one line a way to adapt.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``final-layers``.
    """
    source = extent(table, "final-layers")
    points = gather(source, "test_mse", _place)
    title = "LoRA on eight layers against tuning the last of them"
    return draw(source, "final-layers", title, panels_of(points, "trained weights"))


def _place(one: Measurement) -> Place:
    return Place(frozen(one), line(one), one.spec.get("layers", rank(one)), parameters(one))
