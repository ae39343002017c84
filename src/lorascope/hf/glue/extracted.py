"""What a full fine-tune comes to as adapters: the rank recommended for it, and their scores at several ranks."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from ..extract import extract
from ..functional import adapted, quiet
from ..ranks import rank_report
from .base import Base
from .data import Data
from .score import score
from .tasks import Task

__all__ = ["ExtractedScores", "extracted"]


@dataclass(frozen=True)
class ExtractedScores:
    """What came out.

    Attributes:
        recommended: rank that does on training texts what the fine-tune does; None above what is tried.
        reason: why that rank.
        scores: method and rank -> scores on the development rows, entries of all A and B, seconds.
    """

    recommended: int | None
    reason: str
    scores: dict[tuple[str, int], tuple[dict[str, float], int, float]]


def extracted(
    base: Base, tuned: Path, task: Task, data: Data, spec: Mapping[str, Any], folder: Path, device: str
) -> ExtractedScores:
    """Report and adapters of a fine-tune that lies in a folder.

    Args:
        base: what was fine-tuned.
        tuned: folder of the fine-tune, with its tokenizer.
        task, data: what it was fine-tuned on.
        spec: its ``ranks``, how many ``texts`` of the training rows the report reads, and, where adapters are to be
            weighted by some too, how many ``calibration`` texts.
        folder: for texts and adapters.
        device: on which adapters are scored.

    Cost: about ten forward passes on the texts, and for each rank one on the development rows.
    """
    texts = _written(folder / "texts.txt", task, data, int(spec["texts"]))
    report = rank_report(str(base.folder), str(tuned), texts=texts)
    ways: dict[str, Path | None] = {"extracted": None}
    if "calibration" in spec:
        file = folder / "calibration.txt"
        ways["calibrated"] = _written(file, task, data, int(spec["calibration"]))
    scores: dict[tuple[str, int], tuple[dict[str, float], int, float]] = {}
    every: list[tuple[str, int]] = list(product(ways, [int(rank) for rank in spec["ranks"]]))
    for method, rank in every:
        started = perf_counter()
        out = folder / f"{method}-{rank}"
        found = extract(str(base.folder), str(tuned), out, rank=rank, calibration=ways[method], outputs=False)
        model = _adapted(base, task, out).to(device)
        scores[method, rank] = (
            score(model, data.dev, task, base.tokenizer, int(spec["length"])),
            found.parameters,
            perf_counter() - started,
        )
    return ExtractedScores(report.recommendation.rank, report.recommendation.reason, scores)


def _written(file: Path, task: Task, data: Data, count: int) -> Path:
    file.write_text("\n".join(_texts(task, data, count)) + "\n", encoding="utf-8")
    return file


def _texts(task: Task, data: Data, count: int) -> list[str]:
    """Of the training rows; the two of a pair with a tab between them, which is how they are read."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(1)).tolist()
    some = data.train.take(order[:count])
    texts = zip(some.first, some.second, strict=True) if task.pairs else zip(some.first, strict=True)
    return ["\t".join(" ".join(part.split()) for part in text) for text in texts]


def _adapted(base: Base, task: Task, adapter: Path) -> Any:  # noqa: ANN401
    from transformers import AutoModelForSequenceClassification  # noqa: PLC0415

    with quiet(), torch.random.fork_rng():
        model = AutoModelForSequenceClassification.from_pretrained(
            base.folder, num_labels=task.labels or 1, dtype=torch.float32, ignore_mismatched_sizes=True
        )
        return adapted(model, adapter)
