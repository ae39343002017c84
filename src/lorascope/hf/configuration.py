"""A checkpoint's configuration as transformers reads it."""

from typing import TYPE_CHECKING

from .checkpoint import Checkpoint
from .quiet import quiet
from .reading import reading

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["configuration"]


def configuration(checkpoint: Checkpoint) -> "PreTrainedConfig":
    """The configuration, with what its file leaves out at the architecture's defaults.

    Raises:
        CheckpointError: it names no architecture that transformers has, or has entries that cannot be.
    """
    from transformers import AutoConfig  # noqa: PLC0415

    with reading(f"config.json of {checkpoint.name}", "that of a model transformers has", "check it"), quiet():
        return AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False)
