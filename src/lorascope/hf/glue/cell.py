"""Cells of the suite ``glue``: adapters trained at several ranks, or a full fine-tune and what is extracted from it."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import SpecError
from ...experiments import Measured
from ..functional import quiet
from .base import Base, open_base
from .data import Data, load_data
from .extracted import extracted
from .identity import checkpoint_digest
from .search import best_rate
from .settings import Method, Settings
from .tasks import Task, task_named
from .train import Trained, train

__all__ = ["TaskCell"]

Spec = Mapping[str, Any]
SAID = ("steps", "batch", "length", "dropout", "weight_decay", "precision", "seed", "init")


@dataclass(frozen=True)
class TaskCell:
    """Computes a cell; it can be sent to another process, where the same folders must lie.

    Attributes:
        model: the checkpoint: folder or hub name.
        data: folder of TSV files, or None for the hub's.
    """

    model: str
    data: Path | None

    def __call__(self, spec: Spec, device: str) -> list[Measured]:
        """All that a cell measures.

        Args:
            spec: from the suite's grid, run on a subject.
            device: ``"cpu"``, or a CUDA device.

        Raises:
            SpecError: the checkpoint or the rows are not those that the cell names.
            LorascopeError: they cannot be used.
        """
        task = task_named(str(spec["task"]))
        data = _rows(task.name, self.data)
        base = open_base(self.model, int(spec["length"]))
        _check(spec, base, data)
        where = "cpu" if device == "cpu" else None
        with tempfile.TemporaryDirectory(prefix="lorascope-glue-") as folder:
            compute = _full if spec["method"] == "full" else _gradient
            return compute(_Work(spec, base, task, data, where, Path(folder)))


@dataclass(frozen=True)
class _Work:
    """A cell and all it needs."""

    spec: Spec
    base: Base
    task: Task
    data: Data
    device: str | None
    folder: Path

    def settings(self, method: Method, rank: int, lr: float) -> Settings:
        said = {key: self.spec[key] for key in SAID}
        return Settings(method=method, rank=rank, lr=lr, patience=0, every=int(self.spec["steps"]), **said)

    def rate(self, method: Method, rank: int, rates: str) -> float:
        """The learning rate, chosen once in a process for all seeds."""
        settings = replace(self.settings(method, rank, 1e-3), seed=0, steps=_share(self.spec))
        asked = json.dumps(settings.asked(), sort_keys=True)
        candidates = tuple(float(rate) for rate in self.spec[rates])
        rows = int(self.spec["search_rows"])
        return best_rate(self.base.name, self.task.name, self.data, asked, candidates, rows, self.device)

    def run(self, settings: Settings) -> Trained:
        with tempfile.TemporaryDirectory(dir=self.folder) as steps:
            return train(self.base, self.task, self.data, settings, Path(steps), device=self.device)


def _gradient(work: _Work) -> list[Measured]:
    """The head alone, and adapters of each rank, at the same steps."""
    rows: list[Measured] = []
    for rank in work.spec["ranks"]:
        lr = work.rate("lora", rank, "lr" if rank else "head_lr")
        found = work.run(work.settings("lora", rank, lr))
        rows.append(_row("gradient", rank, _metrics(work.task, found, lr), found.seconds))
    return rows


def _full(work: _Work) -> list[Measured]:
    """Every weight; then the rank that the report recommends for it, and its adapters at each rank."""
    lr = work.rate("full", 0, "full_lr")
    found = work.run(work.settings("full", 0, lr))
    tuned = work.folder / "tuned"
    with quiet():
        found.model.save_pretrained(tuned)
        work.base.tokenizer.save_pretrained(tuned)
    metrics = _metrics(work.task, found, lr)
    where = str(found.model.device)
    report = extracted(work.base, tuned, work.task, work.data, work.spec, work.folder, where)
    if report.recommended is not None:
        metrics["recommended_rank"] = float(report.recommended)
    rows = [_row("full", None, metrics, found.seconds, report.reason)]
    for (method, rank), (scores, parameters, seconds) in report.scores.items():
        rows.append(_row(method, rank, _named(work.task, scores) | {"parameters": float(parameters)}, seconds))
    return rows


def _share(spec: Spec) -> int:
    """Steps of a run that is for the choice of its rate."""
    return max(1, round(float(spec["search_share"]) * int(spec["steps"])))


def _metrics(task: Task, found: Trained, lr: float) -> dict[str, float]:
    return _named(task, found.metrics) | {
        "parameters": float(found.parameters - found.head),
        "head_parameters": float(found.head),
        "lr": lr,
    }


def _named(task: Task, scores: Mapping[str, float]) -> dict[str, float]:
    """The deciding metric under one name for all tasks, and each under its own."""
    return {"dev_score": scores[task.metric]} | {f"dev_{name}": value for name, value in scores.items()}


def _row(method: str, rank: int | None, metrics: dict[str, float], seconds: float, message: str = "") -> Measured:
    return {"method": method, "rank": rank, "metrics": metrics, "seconds": seconds, "message": message}


def _check(spec: Spec, base: Base, data: Data) -> None:
    for what, named, came in (
        ("checkpoint", spec.get("checkpoint_digest"), checkpoint_digest(base.folder)),
        ("rows", spec.get("rows_digest"), data.digest),
    ):
        if named != came:
            raise SpecError(f"the cell is for {what} of digest {named}, got {came}; name the folders it was made with")


@lru_cache(maxsize=8)
def _rows(task: str, folder: Path | None) -> Data:
    return load_data(task_named(task), folder)
