"""Figure "classification": how often the adapted network names the target's class, of sixteen."""

import polars as pl

from .labels import labels
from .panels import Picture

__all__ = ["classification"]


def classification(table: pl.DataFrame) -> Picture:
    """Accuracy and divergence against rank, by depth and kind of frozen network.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``classification``.
    """
    return labels(table, "classification", "Sixteen classes: the largest output")
