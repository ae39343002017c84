"""The result table -> one median over seeds for every point of a figure."""

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from statistics import median
from typing import Any

import polars as pl

__all__ = ["Median", "medians"]


@dataclass(frozen=True)
class Median:
    """One point.

    Attributes:
        init: of the frozen network.
        depths: target's and frozen network's, ``"2/4"``.
        line: the method, and what else tells lines apart.
        at: where on the line: ``"rank 4"``, ``"last 3"``, ``"5+7+9+11"``.
        value: the median; what is no number counts as infinite.
        seeds: how many it is taken over.
    """

    init: str
    depths: str
    line: str
    at: str
    value: float
    seeds: int


def medians(table: pl.DataFrame, suite: str, cells: Collection[str], metric: str = "test_mse") -> list[Median]:
    """Medians over seeds, in the order in which the cells are named.

    Args:
        table: from ``records.read``; failed rows are left out.
        suite: its name; another may have the same cells.
        cells: names of those that count, of one scale.
        metric: which.

    Cost O(rows).

    >>> from lorascope.records import ok_rows, provenance
    >>> spec = {"init": "random", "target_depth": 1, "frozen_depth": 2, "method": "stable", "seed": 0}
    >>> rows = ok_rows("demo", spec, {"test_mse": 0.5}, method="stable", rank=1, seconds=0, origin=provenance("cpu"))
    >>> medians(pl.DataFrame(rows), "demo", [rows[0]["cell"]])
    [Median(init='random', depths='1/2', line='stable', at='rank 1', value=0.5, seeds=1)]
    """
    order = {name: place for place, name in enumerate(cells)}
    chosen = table.filter(
        pl.col("suite") == suite,
        pl.col("cell").is_in(list(order)),
        pl.col("metric") == metric,
        pl.col("status") == "ok",
    )
    found: dict[tuple[str, str, str, str], list[float]] = {}
    # by rank within a cell, for figures read from left to right
    rows = sorted(chosen.iter_rows(named=True), key=lambda row: (order[row["cell"]], row["rank"] or 0))
    for row in rows:
        value = math.inf if math.isnan(row["value"]) else row["value"]
        found.setdefault(_point(json.loads(row["spec"]), row["rank"]), []).append(value)
    return [Median(*point, median(values), len(values)) for point, values in found.items()]


def _point(spec: dict[str, Any], rank: int | None) -> tuple[str, str, str, str]:
    line = str(spec["method"])
    if spec.get("tune_bias") is False and spec["bias"]:
        line += ", biases fixed"
    if "layers" in spec:
        at = f"last {spec['layers']}"
    elif "allocation" in spec:
        at = "+".join(str(one) for one in spec["allocation"])
    else:
        at = f"rank {rank}"
    return str(spec["init"]), f"{spec['target_depth']}/{spec['frozen_depth']}", line, at
