"""The result table -> one median over seeds, with the spread around it, for every point of a figure."""

import json
import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

import polars as pl

from ..errors import SpecError

__all__ = ["Measurement", "Median", "Spread", "measurements", "medians", "quantile", "spreads"]

P = TypeVar("P", bound=Hashable)
# what a line's name says where a suite has several: networks, tasks and starts that are no repetitions of each other
APART = ("model", "width", "dtype", "task", "start", "pretrain.level")


@dataclass(frozen=True)
class Measurement:
    """What one method at one rank gave on one pair of networks.

    Attributes:
        spec: what the cell was to compute.
        cell: its name.
        method, rank: as in the records.
        metrics: name -> value; none where the method failed.
    """

    spec: Mapping[str, Any]
    cell: str
    method: str
    rank: int | None
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Spread:
    """The values of one point, one a seed.

    Attributes:
        values: in ascending order; what is no number counts as infinite.
        failed: how many more gave none.
    """

    values: tuple[float, ...]
    failed: int = 0

    def quantile(self, share: float) -> float:
        """The value below which that share of them lies; NaN where there is none."""
        return quantile(self.values, share) if self.values else math.nan

    @property
    def median(self) -> float:
        """NaN where there is no value."""
        return median(self.values) if self.values else math.nan


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


def measurements(table: pl.DataFrame, suite: str, cells: Collection[str] | None = None) -> list[Measurement]:
    """The rows of a suite, one measurement for each cell, method and rank, by rank within a cell.

    A cell that failed as a whole has one measurement without metrics for each of its ranks.

    Args:
        table: from ``records.read``.
        suite: its name; another may have the same cells.
        cells: names of those that count, in the order in which they are wanted; None: all, in the table's order.

    Cost O(rows).
    """
    found: dict[tuple[str, str, int | None], dict[str, float]] = {}
    specs: dict[str, dict[str, Any]] = {}
    for row in table.filter(pl.col("suite") == suite).iter_rows(named=True):
        cell = row["cell"]
        specs[cell] = specs.get(cell) or json.loads(row["spec"])
        if row["metric"] is not None:
            found.setdefault((cell, row["method"], row["rank"]), {})[row["metric"]] = row["value"]
            continue
        for rank in (specs[cell].get("ranks") or [None]) if row["rank"] is None else [row["rank"]]:
            found.setdefault((cell, row["method"], rank), {})
    order = {name: place for place, name in enumerate(specs if cells is None else cells)}
    keys = sorted((key for key in found if key[0] in order), key=lambda key: (order[key[0]], key[2] or 0))
    return [Measurement(specs[cell], cell, method, rank, found[cell, method, rank]) for cell, method, rank in keys]


def spreads(found: Sequence[Measurement], metric: str, point: Callable[[Measurement], P | None]) -> dict[P, Spread]:
    """The values of one metric, gathered by the point of a figure that they belong to.

    Args:
        found: from ``measurements``, of one scale; a seed that a point has from several cells counts once for each.
        metric: which; measurements that have others alone are left out.
        point: what tells points apart: line, panel, place on the axis; None leaves a measurement out.

    Returns:
        In the order in which points are met. A point whose measurements all failed has a spread without values.

    >>> seeds = [Measurement({}, "a", "stable", 4, {"test_mse": value}) for value in (3.0, 1.0, 2.0)]
    >>> [(at, one.median, one.quantile(0)) for at, one in spreads(seeds, "test_mse", lambda one: one.rank).items()]
    [(4, 2.0, 1.0)]
    """
    values: dict[P, list[float]] = {}
    failed: dict[P, int] = {}
    for one in found:
        if one.metrics and metric not in one.metrics:
            continue
        at = point(one)
        if at is None:
            continue
        some = values.setdefault(at, [])
        if one.metrics:
            value = one.metrics[metric]
            some.append(math.inf if math.isnan(value) else value)
        else:
            failed[at] = failed.get(at, 0) + 1
    return {at: Spread(tuple(sorted(some)), failed.get(at, 0)) for at, some in values.items()}


def quantile(values: Sequence[float], share: float) -> float:
    """Linear between the two values next to it, as numpy has it; infinite ones stay infinite.

    Args:
        values: one at least, in ascending order.
        share: between 0 and 1.

    Raises:
        SpecError: no values, or a share outside [0, 1].

    >>> quantile([1.0, 2.0, 4.0], 0.75), quantile([1.0, float("inf")], 0.5)
    (3.0, inf)
    """
    if not values or not 0 <= share <= 1:
        raise SpecError(f"quantile needs values and a share from 0 to 1, got {len(values)} values and {share}")
    place = share * (len(values) - 1)
    below = math.floor(place)
    low, high = values[below], values[math.ceil(place)]
    # a difference of infinities is no number
    return low if low == high else low + (place - below) * (high - low)


def medians(table: pl.DataFrame, suite: str, cells: Collection[str], metric: str = "test_mse") -> list[Median]:
    """Medians over seeds, in the order in which the cells are named; failed rows are left out.

    Where the cells differ in width, number format, task, start or level of training, lines are told apart by it.

    Args:
        table: from ``records.read``.
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
    chosen = measurements(table, suite, cells)
    apart = [key for key in APART if len({_said(one.spec, key) for one in chosen} - {None}) > 1]
    found = spreads(chosen, metric, lambda one: _point(one, apart))
    return [Median(*point, one.median, len(one.values)) for point, one in found.items() if one.values]


def _said(spec: Mapping[str, Any], key: str) -> str | float | None:
    """What a spec says under a key, or in a table of it: ``pretrain.level``."""
    table, _, inner = key.partition(".")
    return spec.get(table, {}).get(inner) if inner else spec.get(key)


def _point(one: Measurement, apart: Sequence[str]) -> tuple[str, str, str, str]:
    """Where a measurement belongs; ``apart``: what else tells lines apart in this suite."""
    spec = one.spec
    blocks = " blocks" if spec.get("model") == "transformer" else ""
    return str(spec["init"]), f"{spec['target_depth']}/{spec['frozen_depth']}{blocks}", _line(one, apart), _place(one)


def _line(one: Measurement, apart: Sequence[str]) -> str:
    spec = one.spec
    # a cell of real tasks has rows of two methods
    line = one.method if spec.get("measure") == "glue" else str(spec["method"])
    for key in apart:
        value = _said(spec, key)
        if value is not None and not (spec.get("measure") == "exactness" and key in ("width", "dtype")):
            line += f", {value}" if isinstance(value, str) else f", {key.rpartition('.')[2]} {value}"
    if spec.get("tune_bias") is False and spec["bias"]:
        line += ", biases fixed"
    return line


def _place(one: Measurement) -> str:
    spec = one.spec
    if spec.get("measure") == "exactness":  # rows of the table, rather than columns
        return f"{spec['width']}, {spec['dtype']}"
    if "layers" in spec:
        return f"last {spec['layers']}"
    if "allocation" in spec:
        return "+".join(str(number) for number in spec["allocation"])
    if one.rank is None:
        return "all"
    return f"rank {one.rank}"
