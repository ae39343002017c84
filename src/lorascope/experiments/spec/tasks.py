"""What a suite of tasks for real checkpoints may say: which tasks, how much of each, and on what."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .keys import ScaleName
from .suite import Count, Decay, Init, Rate, Seed, Some

__all__ = ["TASK_MEASURE", "Subject", "TaskScale", "TaskSuite"]

TASK_MEASURE = "glue"
TaskName = Literal["cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb"]
TaskMethod = Literal["gradient", "full"]


class _Table(BaseModel):
    """A TOML table: no keys but its own, no value turned into another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


@dataclass(frozen=True)
class Subject:
    """What a suite of tasks is run on.

    Attributes:
        checkpoint: its name, without any path.
        digest: of its configuration and weights.
        width, depth, heads: of the encoder.
        activation: of its feed-forward layers.
        rows: task -> digest of its rows.
    """

    checkpoint: str
    digest: str
    width: int
    depth: int
    heads: int
    activation: str
    rows: Mapping[str, str]

    def pair(self, task: str) -> dict[str, Any]:
        """What cells of a task say of it: the fine-tuned network is as deep as the frozen one."""
        return {
            "model": "transformer",
            "width": self.width,
            "heads": self.heads,
            "activation": self.activation,
            "bias": True,
            "target_depth": self.depth,
            "frozen_depth": self.depth,
            "checkpoint": self.checkpoint,
            "checkpoint_digest": self.digest,
            "rows_digest": self.rows.get(task, ""),
        }


class TaskScale(_Table):
    """How much of a suite of tasks is run.

    Attributes:
        tasks, inits, seeds: one cell each, and for each method.
        methods: ``gradient``: adapters of all ranks; ``full``: every weight, of pretrained checkpoints alone, and the
            adapters extracted from it.
        ranks: of the adapters; 0 trains the head alone.
        steps, batch, length, dropout, weight_decay, precision: of every run alike.
        lr, head_lr, full_lr: learning rates to choose among, for adapters, for the head alone and for every weight.
        random_lr: for adapters of a random body, in place of ``lr``.
        task_steps: of tasks that take another number of steps.
        search_share, search_rows: the choice is made once for a task, an init and a rank, in this share of the steps,
            by the score on so many of the training rows that are then not trained on.
        texts: of the training rows, for the recommended rank.
        calibration: of the training rows, so many weigh a second set of extracted adapters; None: there is none.
    """

    tasks: Some[TaskName]
    inits: Some[Init] = ["pretrained", "random"]
    seeds: Some[Seed] = [0, 1, 2, 3, 4]
    methods: Some[TaskMethod] = ["gradient", "full"]
    ranks: Some[Annotated[int, Field(ge=0)]]
    steps: Count
    task_steps: dict[TaskName, Count] = {}
    batch: Count = 32
    length: Annotated[int, Field(ge=8)] = 128
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Decay = 0.01
    precision: Literal["float32", "bfloat16"] = "float32"
    lr: Some[Rate]
    random_lr: Some[Rate] | None = None
    head_lr: Some[Rate]
    full_lr: Some[Rate]
    search_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    search_rows: Count = 500
    texts: Count = 200
    calibration: Count | None = None


class TaskSuite(_Table):
    """Real tasks, and an encoder that is adapted to each.

    Attributes:
        name: of the suite, and in every row of its results.
        title: one line about it.
        measure: ``glue``.
        subject: what it is run on; None until that is known.
        scales: scale -> how much of it.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    title: Annotated[str, Field(min_length=1)]
    measure: Literal["glue"]
    subject: Subject | None = None
    scales: Annotated[dict[ScaleName, TaskScale], Field(min_length=1)]

    def on(self, subject: Subject) -> "TaskSuite":
        """The same suite, run on that."""
        return self.model_copy(update={"subject": subject})
