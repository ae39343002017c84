"""Rows as tokens."""

from typing import TYPE_CHECKING, Any

from .tasks import Task
from .tsv import Split

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["by_length", "encode"]

Row = dict[str, Any]


def encode(split: Split, task: Task, tokenizer: "PreTrainedTokenizerBase", length: int) -> list[Row]:
    """Tokens of each row, and its label.

    Args:
        split: the rows.
        task: theirs.
        tokenizer: of the model.
        length: tokens a row at most; of a pair the longer text is cut first.

    Returns:
        A mapping a row, as a model's forward takes it.
    """
    second = list(split.second) if task.pairs else None
    encoded = tokenizer(list(split.first), second, truncation=True, max_length=length)
    labels = [int(label) if task.labels else float(label) for label in split.labels]
    return [{key: encoded[key][row] for key in encoded} | {"labels": labels[row]} for row in range(len(split))]


def by_length(rows: list[Row]) -> list[Row]:
    """Short rows first, so that little is padded."""
    return sorted(rows, key=lambda row: len(row["input_ids"]))
