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
        dtype: polars' type, which also says what Python type a value needs.
        meaning: what it holds.
        optional: None is allowed.
    """

    dtype: type[pl.String | pl.Int64 | pl.Float64]
    meaning: str
    optional: bool = False


COLUMNS: Mapping[str, Column] = {
    "suite": Column(pl.String, "name of the suite"),
    "cell": Column(pl.String, "name of the cell, cell_name(spec)"),
    "seed": Column(pl.Int64, "seed of every random draw of this row, cell_seed(spec) unless a cell has many"),
    "method": Column(pl.String, "what adapted, e.g. stable"),
    "rank": Column(pl.Int64, "rank of every adapter; None where the method has none", optional=True),
    "metric": Column(pl.String, "what was measured; None only where the cell failed", optional=True),
    "value": Column(pl.Float64, "its value, NaN and infinities included; None only where the cell failed", True),
    "status": Column(pl.String, "ok or failed"),
    "message": Column(pl.String, "why it failed; else what there is to say, or nothing"),
    "seconds": Column(pl.Float64, "wall-clock seconds the method took"),
    "version": Column(pl.String, "lorascope's version"),
    "commit": Column(pl.String, "commit of lorascope's checkout, None where there is none", optional=True),
    "device": Column(pl.String, "where it ran, e.g. cpu"),
    "spec": Column(pl.String, "what the cell was to compute, as JSON"),
}
SCHEMA = pl.Schema({name: column.dtype() for name, column in COLUMNS.items()})
KEY = ("suite", "cell", "seed", "method", "rank", "metric")  # no two rows agree in all of these
