"""The result table: rows in, Parquet part files, one frame out; torch is not needed."""

from .alike import alike
from .cells import canonical_json, cell_name, cell_seed
from .check import checked
from .comparison import Change, Comparison, compare
from .medians import Measurement, Median, Spread, measurements, medians, quantile, spreads
from .predictions import KEPT, LEAST_GAIN, Prediction, predictions
from .provenance import Provenance, provenance
from .read import read
from .resume import done, shared
from .rows import failed_row, ok_rows
from .schema import COLUMNS, SCHEMA, SCHEMA_VERSION, Column, Row
from .write import part_name, sweep, write_part

__all__ = [
    "COLUMNS",
    "KEPT",
    "LEAST_GAIN",
    "SCHEMA",
    "SCHEMA_VERSION",
    "Change",
    "Column",
    "Comparison",
    "Measurement",
    "Median",
    "Prediction",
    "Provenance",
    "Row",
    "Spread",
    "alike",
    "canonical_json",
    "cell_name",
    "cell_seed",
    "checked",
    "compare",
    "done",
    "failed_row",
    "measurements",
    "medians",
    "ok_rows",
    "part_name",
    "predictions",
    "provenance",
    "quantile",
    "read",
    "shared",
    "spreads",
    "sweep",
    "write_part",
]
