"""Figure "binary": how often the adapted network names the target's class, of two."""

import polars as pl

from .labels import labels
from .panels import Picture

__all__ = ["binary"]


def binary(table: pl.DataFrame) -> Picture:
    """Accuracy and divergence against rank, by depth and kind of frozen network.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``binary``.
    """
    return labels(table, "binary", "Two classes: the larger half of the outputs")
