"""Tensors on disk against the class that is to hold them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import CheckpointError
from .checkpoint import Checkpoint
from .naming import Source
from .reading import few
from .slots import slots_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["check_shapes"]


def check_shapes(checkpoint: Checkpoint, model: "PreTrainedModel", sources: Mapping[str, Source]) -> None:
    """Refuse weights of other shapes than their own configuration says; heads may be another class's.

    Args:
        checkpoint: opened.
        model: the class with the checkpoint's configuration, on the meta device.
        sources: what the checkpoint has, by the model's names.

    Raises:
        CheckpointError: some have.
    """
    slots = slots_of(model)
    heads = {slot.module for slot in slots if slot.kind == "head"}
    faults = [
        f"{slot.name} has shape {list(found.shape)}, its config.json says {list(slot.shape)}"
        for slot in slots
        for found in [next((sources[name] for name in (slot.name, *slot.tied) if name in sources), None)]
        if found is not None and slot.kind != "buffer" and slot.module not in heads and found.shape != slot.shape
    ]
    if faults:
        raise CheckpointError(
            f"weights of {checkpoint.name} must be of the shapes its configuration says, but {few(faults)}; "
            f"take the config.json that was saved with them"
        )
