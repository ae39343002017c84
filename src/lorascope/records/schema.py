"""The columns of the result table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

import polars as pl

__all__ = ["COLUMNS", "KEY", "SCHEMA", "SCHEMA_VERSION", "STATUSES", "Column", "Row"]

SCHEMA_VERSION = 1  # to be raised with every change of a column's name, type or meaning
STATUSES = ("ok", "failed")


class Row(TypedDict):
    """One metric of one cell, or one failure."""

    suite: str
    cell: str
    seed: int
    method: str
    rank: int | None
    metric: str | None
    value: float | None
    status: str
    message: str
    seconds: float
    version: str
    commit: str | None
    device: str
    spec: str


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        kind: str, int or float.
        meaning: what it holds.
        optional: None is allowed.
    """

    kind: type
    meaning: str
    optional: bool = False


COLUMNS: Mapping[str, Column] = {
    "suite": Column(str, "name of the suite"),
    "cell": Column(str, "name of the cell, cell_name(spec)"),
    "seed": Column(int, "seed of every random draw of this row, cell_seed(spec) unless a cell has many"),
    "method": Column(str, "what adapted, e.g. stable"),
    "rank": Column(int, "rank of every adapter; None where the method has none", optional=True),
    "metric": Column(str, "what was measured; None only where the cell failed", optional=True),
    "value": Column(float, "its value, NaN and infinities included; None only where the cell failed", True),
    "status": Column(str, "ok or failed"),
    "message": Column(str, "why it failed; else what there is to say, or nothing"),
    "seconds": Column(float, "wall-clock seconds the method took"),
    "version": Column(str, "lorascope's version"),
    "commit": Column(str, "commit of lorascope's checkout, None where there is none", optional=True),
    "device": Column(str, "where it ran, e.g. cpu"),
    "spec": Column(str, "what the cell was to compute, as JSON"),
}
_DTYPES = {str: pl.String(), int: pl.Int64(), float: pl.Float64()}
SCHEMA = pl.Schema({name: _DTYPES[column.kind] for name, column in COLUMNS.items()})
KEY = ("suite", "cell", "seed", "method", "rank", "metric")  # no two rows agree in all of these
