"""Accuracy and divergence against rank: what the figures of classifiers share."""

from dataclasses import replace

import polars as pl

from .extent import extent
from .panels import EXACT, Picture, draw, panels_of
from .places import by_rank, pair
from .points import gather

__all__ = ["labels"]


def labels(table: pl.DataFrame, name: str, title: str) -> Picture:
    """One column a depth and kind of frozen network: accuracy above, divergence beneath.

    Args:
        table: from ``records.read``.
        name: of the figure and of its suite.
        title: of the figure.

    Raises:
        SpecError: no records of the suite.
    """
    source = extent(table, name)
    accuracy = panels_of(gather(source, "test_accuracy", by_rank(pair)), y="test accuracy")
    divergence = panels_of(gather(source, "test_kl", by_rank(pair)), y="test KL divergence", log=True, floor=EXACT)
    panels = [replace(panel, share=True, metric="test_accuracy") for panel in accuracy]
    panels += [replace(panel, metric="test_kl") for panel in divergence]
    columns = max(len(accuracy), len(divergence))
    return draw(source, name, title, panels, columns=columns, width=2.55 if columns > 2 else 3.3)
