"""What a suite of tasks is run on, as its cells name it."""

from collections.abc import Collection
from pathlib import Path

from ...experiments import Subject
from .base import open_base, read_config
from .data import load_data
from .identity import checkpoint_digest, checkpoint_name
from .tasks import task_named

__all__ = ["subject"]


def subject(model: str, data: Path | None, tasks: Collection[str]) -> Subject:
    """Open a checkpoint and the rows of some tasks.

    Args:
        model: folder or hub name of an encoder.
        data: folder of TSV files; None for the hub's.
        tasks: whose rows are wanted.

    Raises:
        CheckpointError, SpecError: what cannot be used; before anything is computed.
    """
    base = open_base(model, 8)
    config = read_config(model, base.folder)
    return Subject(
        checkpoint=checkpoint_name(model),
        digest=checkpoint_digest(base.folder),
        width=int(config.hidden_size),
        depth=int(config.num_hidden_layers),
        heads=int(config.num_attention_heads),
        activation=str(getattr(config, "hidden_act", "gelu")),
        rows={name: load_data(task_named(name), data).digest for name in dict.fromkeys(tasks)},
    )
