"""What a model makes of rows, and how well."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...errors import SpecError
from ...shapes import Float
from .encode import by_length, encode
from .tasks import Task
from .tsv import Split

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["predictions", "score"]

BATCH = 64


def predictions(logits: Float[Tensor, "rows out"], task: Task) -> list[float]:
    """The class of the largest logit, or the number itself.

    >>> from lorascope.hf.glue import TASKS
    >>> predictions(torch.tensor([[0.2, 0.1], [0.0, 3.0]]), TASKS["rte"])
    [0.0, 1.0]
    >>> predictions(torch.tensor([[7.5]]), TASKS["stsb"])
    [7.5]
    """
    if task.labels:
        return [float(index) for index in logits.argmax(dim=-1).tolist()]
    return [float(value) for value in logits.double().reshape(-1).tolist()]


def score(
    model: nn.Module, split: Split, task: Task, tokenizer: "PreTrainedTokenizerBase", length: int
) -> dict[str, float]:
    """The task's metrics of a model on rows, in float32.

    Args:
        model: with a head for the task; left in evaluation mode.
        split: the rows.
        task: theirs.
        tokenizer: of the model.
        length: tokens a row at most.

    Raises:
        SpecError: outputs that are not finite.

    Cost: one forward pass, batches of like lengths.
    """
    rows = by_length(encode(split, task, tokenizer, length))
    device = next(model.parameters()).device
    logits: list[Tensor] = []
    model.eval()
    for start in range(0, len(rows), BATCH):
        batch: Any = tokenizer.pad(
            [{key: value for key, value in row.items() if key != "labels"} for row in rows[start : start + BATCH]],
            return_tensors="pt",
        )
        with torch.no_grad():
            logits.append(model(**batch.to(device)).logits.float().cpu())
    made = torch.cat(logits)
    if not made.isfinite().all():
        raise SpecError(
            f"a score needs outputs that are finite, got {int((~made.isfinite()).any(dim=-1).sum())} of {len(rows)} "
            f"development rows without; the weights it started from are not finite, or training diverged: lower --lr"
        )
    return task.scores(predictions(made, task), [float(row["labels"]) for row in rows])
