"""Figure "bias": LoRA that trains biases as well, against LoRA that leaves them as they are."""

import polars as pl

from ..records import Measurement
from .extent import extent
from .panels import Picture, draw, panels_of
from .places import frozen, line, parameters, rank
from .points import Place, gather

__all__ = ["bias"]


def bias(table: pl.DataFrame) -> Picture:
    """One panel a kind of frozen network, one line with and one without tuned biases.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``bias``.
    """
    source = extent(table, "bias")
    points = gather(source, "test_mse", _place)
    return draw(source, "bias", "LoRA with and without tuned biases", panels_of(points, "trained weights and biases"))


def _place(one: Measurement) -> Place:
    biases = "biases tuned" if one.spec["tune_bias"] else "biases fixed"
    return Place(frozen(one), f"{line(one)}, {biases}", rank(one), parameters(one, biases=True))
