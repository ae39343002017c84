"""The learning rate of a kind of run, by the score on training rows that it does not see."""

import json
import math
import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from ...errors import SpecError
from .base import Base, open_base
from .data import Data
from .settings import Settings
from .tasks import Task, task_named
from .train import train

__all__ = ["best_rate", "held_out"]


@lru_cache(maxsize=256)
def best_rate(
    model: str, task: str, data: Data, asked: str, rates: tuple[float, ...], rows: int, device: str | None
) -> float:
    """The rate with the best score on held-out training rows; of equals the least. The development rows are not used.

    Args:
        model, task: names.
        data: the task's rows.
        asked: settings as JSON, whose rate does not count.
        rates: to choose among; of one there is nothing to choose.
        rows: of the training rows, held out.
        device: as for training.

    Raises:
        SpecError: as :func:`held_out`.

    Cost: one run a rate, once in a process for the same arguments.
    """
    if len(rates) == 1:
        return rates[0]
    chosen, settings = task_named(task), Settings(**json.loads(asked))
    base, inner = open_base(model, settings.length), held_out(data, rows)
    scores: dict[float, float] = {}
    for rate in sorted(rates):
        with tempfile.TemporaryDirectory(prefix="lorascope-glue-") as folder:
            scores[rate] = _score(base, chosen, inner, replace(settings, lr=rate), Path(folder), device)
    return max(scores, key=lambda rate: scores[rate])


def _score(base: Base, task: Task, data: Data, settings: Settings, folder: Path, device: str | None) -> float:
    """Of one run; one that diverges is the worst there is. What else can be wrong the run itself will say."""
    try:
        return train(base, task, data, settings, folder, device=device).metrics[task.metric]
    except SpecError:
        return -math.inf


def held_out(data: Data, rows: int) -> Data:
    """The training rows alone, some of them in the development rows' place.

    Args:
        data: a task's rows.
        rows: to hold out; at most a fifth of the training rows, but one.

    Raises:
        SpecError: no two training rows.
    """
    if len(data.train) < 2:
        raise SpecError(
            f"to choose among learning rates takes 2 training rows, one to learn from and one to judge by, "
            f"got {len(data.train)}; add rows, or give one rate"
        )
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0)).tolist()
    size = max(1, min(rows, len(order) // 5))
    return replace(data, train=data.train.take(order[size:]), dev=data.train.take(order[:size]), others={})
