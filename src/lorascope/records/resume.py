"""What a run need not do again: its own cells that are recorded, and other suites' cells that are the same."""

import os
from collections.abc import Collection
from pathlib import Path

import polars as pl

from .check import checked
from .read import read
from .schema import Row

__all__ = ["done", "shared"]


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


def shared(directory: str | os.PathLike[str], suite: str, cells: Collection[str]) -> dict[str, list[Row]]:
    """Rows of cells that other suites have recorded whole, as this suite's own.

    A cell's name is all that its numbers depend on, so they are the same numbers; seconds, commit and device stay those
    of the computation.

    Args:
        directory: of part files; where there is none yet, nothing is shared.
        suite: that wants them.
        cells: their names.

    Returns:
        Cell -> rows with the suite's name put in, for cells of status ok throughout.

    Raises:
        SpecError: as ``read``, but for a missing folder.
    """
    if not Path(directory).exists():
        return {}
    others = read(directory).filter(pl.col("suite") != suite, pl.col("cell").is_in(list(cells)))
    whole = (pl.col("status") == "ok").all().over("suite", "cell")
    # the first suite by name that has a cell whole gives all its rows
    first = pl.col("suite") == pl.col("suite").min().over("cell")
    found = others.filter(whole).filter(first).with_columns(suite=pl.lit(suite))
    rows: dict[str, list[Row]] = {}
    for row in checked(found.to_dicts()):
        rows.setdefault(row["cell"], []).append(row)
    return rows
