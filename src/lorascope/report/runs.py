"""The result table -> one run for each method, rank and pair of networks."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

__all__ = ["Run", "collect", "extra_keys"]

CURVE = "curve_mse@"  # followed by the step
# told apart by a filter, a line or the x axis; any other key that varies is a panel of its own
HANDLED = frozenset((
    "allocation", "frozen_depth", "init", "layers", "method", "pretrain", "rank", "ranks", "scale", "seed",
    "start", "target_depth", "tune_bias",
))  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What the rows of one method at one rank say together.

    Attributes:
        rank: None where adapters have none or several.
        failed: it gave no result, and ``message`` says why.
        metrics: name -> value, without the points of a curve.
        curve: steps and held-out losses, where they were recorded.
        spec: what the cell was to compute.
        spec_text: the same as JSON.
    """

    suite: str
    cell: str
    row_seed: int
    method: str
    rank: int | None
    failed: bool
    message: str
    seconds: float
    version: str
    commit: str | None
    device: str
    metrics: Mapping[str, float]
    curve: tuple[tuple[int, float], ...]
    spec: Mapping[str, Any]
    spec_text: str

    @cached_property
    def scale(self) -> str:
        return str(self.spec.get("scale", "unmarked"))

    @cached_property
    def init(self) -> str:
        return str(self.spec.get("init", "-"))

    @cached_property
    def depths(self) -> str:
        """Target's and frozen network's, ``"2/4"``."""
        if "target_depth" not in self.spec or "frozen_depth" not in self.spec:
            return "-"
        return f"{self.spec['target_depth']}/{self.spec['frozen_depth']}"

    @cached_property
    def seed(self) -> int:
        """The small one that numbers the pair of networks, where the spec has it."""
        seed = self.spec.get("seed")
        return seed if isinstance(seed, int) else self.row_seed

    @cached_property
    def line(self) -> str:
        """The method, and what else tells lines apart."""
        parts = [self.method]
        if self.spec.get("tune_bias") is False and self.spec.get("bias"):
            parts.append("biases fixed")
        if "start" in self.spec:
            parts.append(f"{self.spec['start']} start")
        return ", ".join(parts)


def collect(table: pl.DataFrame) -> list[Run]:
    """The runs of a table from ``records.read``, in its order.

    Cost O(rows).
    """
    shared = ("message", "seconds", "version", "commit", "device", "spec")
    grouped = table.group_by("suite", "cell", "seed", "method", "rank", maintain_order=True).agg(
        pl.col("metric"),
        pl.col("value"),
        (pl.col("status") == "failed").any().alias("failed"),
        # a failure's own message, where there is one beside rows that are ok
        *(pl.col(name).sort_by(pl.col("status") == "failed", descending=True, maintain_order=True).first()
          for name in shared),
    )  # fmt: skip
    specs = {text: json.loads(text) for text in table["spec"].unique()}
    return [_run(row, specs) for row in grouped.iter_rows(named=True)]


def _run(row: Mapping[str, Any], specs: Mapping[str, Mapping[str, Any]]) -> Run:
    values = {name: value for name, value in zip(row["metric"], row["value"], strict=True) if name is not None}
    curve = sorted(
        (int(name.removeprefix(CURVE)), value)
        for name, value in values.items()
        if name.startswith(CURVE) and name.removeprefix(CURVE).isdecimal()
    )
    return Run(
        suite=row["suite"],
        cell=row["cell"],
        row_seed=row["seed"],
        method=row["method"],
        rank=row["rank"],
        failed=row["failed"],
        message=row["message"],
        seconds=row["seconds"],
        version=row["version"],
        commit=row["commit"],
        device=row["device"],
        metrics={name: value for name, value in values.items() if not name.startswith(CURVE)},
        curve=tuple(curve),
        spec=specs[row["spec"]],
        spec_text=row["spec"],
    )


def extra_keys(runs: Sequence[Run]) -> list[str]:
    """Keys of the specs by which runs differ that agree in scale, method, initialisation and depths.

    A median over seeds must not mix, say, 1000 steps with 5000; these keys keep them apart.

    Cost O(runs x keys).
    """
    seen: dict[tuple[str, ...], str] = {}
    found: dict[str, None] = {}
    for run in runs:
        where = (run.scale, run.method, run.init, run.depths)
        for key, value in _plain(run.spec):
            # each task has rows of its own
            within = str(run.spec.get("task", "")) if key == "rows_digest" else ""
            if seen.setdefault((*where, key, within), value) != value:
                found[key] = None
    return sorted(found)


def _plain(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    return ((key, json.dumps(value)) for key, value in spec.items() if key not in HANDLED)
