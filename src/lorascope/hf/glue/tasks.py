"""The eight tasks of GLUE: what their rows hold, and by what they are judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...errors import SpecError
from .metrics import Metric, accuracy, f1, matthews, pearson, spearman

__all__ = ["TASKS", "Task", "task_named"]


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: as folders and the command line have it.
        columns: of its texts on the hub; two where sentences come in pairs.
        labels: how many classes; 0 where the label is a number, from ``low`` to ``high``.
        metrics: the official ones by name; the first one decides, as in Hu et al. 2022 and Zeng & Lee 2024.
        splits: name on the hub -> file, of what is held out; the first is the development set.
    """

    name: str
    columns: tuple[str, ...]
    labels: int
    metrics: Mapping[str, Metric]
    splits: Mapping[str, str]
    low: float = 0.0
    high: float = 5.0

    @property
    def pairs(self) -> bool:
        """Whether a row has two texts."""
        return len(self.columns) == 2

    @property
    def metric(self) -> str:
        """The one that decides."""
        return next(iter(self.metrics))

    def scores(self, predicted: Sequence[float], labels: Sequence[float]) -> dict[str, float]:
        """Every official metric.

        >>> task_named("mrpc").scores([1, 1, 0, 0], [1, 0, 0, 0])
        {'accuracy': 0.75, 'f1': 0.6666666666666666}
        """
        return {name: metric(predicted, labels) for name, metric in self.metrics.items()}


_DEV = {"validation": "dev.tsv"}
_ALL = (
    Task("cola", ("sentence",), 2, {"matthews": matthews}, _DEV),
    Task(
        "mnli",
        ("premise", "hypothesis"),
        3,
        {"accuracy": accuracy},
        {"validation_matched": "dev.tsv", "validation_mismatched": "dev_mismatched.tsv"},
    ),
    Task("mrpc", ("sentence1", "sentence2"), 2, {"accuracy": accuracy, "f1": f1}, _DEV),
    Task("qnli", ("question", "sentence"), 2, {"accuracy": accuracy}, _DEV),
    Task("qqp", ("question1", "question2"), 2, {"accuracy": accuracy, "f1": f1}, _DEV),
    Task("rte", ("sentence1", "sentence2"), 2, {"accuracy": accuracy}, _DEV),
    Task("sst2", ("sentence",), 2, {"accuracy": accuracy}, _DEV),
    Task("stsb", ("sentence1", "sentence2"), 0, {"pearson": pearson, "spearman": spearman}, _DEV),
)
TASKS: Mapping[str, Task] = {task.name: task for task in _ALL}


def task_named(name: str) -> Task:
    """The task of that name.

    Raises:
        SpecError: there is none.

    >>> task_named("rte").pairs
    True
    """
    if name not in TASKS:
        raise SpecError(f"TASK must be one of {', '.join(TASKS)}, got {name!r}")
    return TASKS[name]
