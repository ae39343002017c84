"""A suite of tasks and a scale -> the cells to compute."""

from itertools import product
from typing import Any

from .spec.tasks import TASK_MEASURE, TaskScale, TaskSuite

__all__ = ["task_cells", "task_effort"]

Spec = dict[str, Any]
ALIKE = ("batch", "length", "dropout", "weight_decay", "precision", "search_share", "search_rows")
OWN = {"gradient": ("lr", "head_lr"), "full": ("full_lr", "texts")}


def task_cells(suite: TaskSuite, scale: str, extent: TaskScale) -> list[Spec]:
    """One cell a task, seed, init and method, at all ranks; a full fine-tune and what is extracted from it are one."""
    cells: list[Spec] = []
    for task, seed, init, method in product(extent.tasks, extent.seeds, extent.inits, extent.methods):
        if method == "full" and init != "pretrained":
            continue
        said = extent.model_dump(include={*ALIKE, *OWN[method]})
        ranks = list(extent.ranks) if method == "gradient" else [rank for rank in extent.ranks if rank > 0]
        if method == "full" and extent.calibration is not None:
            said["calibration"] = extent.calibration
        if method == "gradient" and init == "random" and extent.random_lr is not None:
            said["lr"] = list(extent.random_lr)
        where = suite.subject.pair(task) if suite.subject is not None else {}
        cell: Spec = {"scale": scale, "measure": TASK_MEASURE, "task": task, "init": init, "seed": seed}
        steps = extent.task_steps.get(task, extent.steps)
        cells.append(cell | where | {"method": method, "ranks": ranks, "steps": steps} | said)
    return cells


def task_effort(spec: Spec) -> float:
    """Roughly the seconds of a cell on one core; only proportions matter."""
    length = 13 if spec["task"] in ("cola", "sst2") else 50
    run = 2e-4 * spec["batch"] * length * spec["steps"] * spec.get("frozen_depth", 6) / 6
    return 2 * run + 60 if spec["method"] == "full" else run * len(spec["ranks"])
