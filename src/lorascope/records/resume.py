"""What a run that was stopped need not do again."""

import os
from pathlib import Path

import polars as pl

from .read import read

__all__ = ["done"]


def done(directory: str | os.PathLike[str], suite: str) -> set[str]:
    """Names of the suite's cells that are recorded, all their rows with status ok; cells that failed are to be retried.

    Args:
        directory: of part files; where there is none yet, nothing is done.
        suite: its name.

    Raises:
        SpecError: as ``read``, but for a missing folder.
    """
    if not Path(directory).exists():
        return set()
    cells = read(directory).filter(pl.col("suite") == suite).group_by("cell").agg((pl.col("status") == "ok").all())
    return set(cells.filter("status")["cell"])
