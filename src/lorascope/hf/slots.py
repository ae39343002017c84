"""What each parameter of a model is, from its class built without memory."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .checkpoint import Checkpoint
from .configuration import configuration
from .extra import need_hf
from .quiet import quiet
from .reading import reading

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["MATRICES", "Kind", "Slot", "model_class", "skeleton", "slots_of"]

Kind = Literal["linear", "conv1d", "embedding", "expert", "head", "norm", "bias", "whole", "other"]
MATRICES: tuple[Kind, ...] = ("linear", "conv1d", "embedding", "expert", "head")
"""Kinds that a low-rank difference can carry."""


@dataclass(frozen=True)
class Slot:
    """One parameter of a model, under its first name.

    Attributes:
        name: the parameter's, e.g. ``model.layers.0.mlp.up_proj.weight``.
        module: that of the module that owns it.
        kind: linear; conv1d (transformers', stored transposed); embedding; expert (one matrix an expert, stacked);
            head (a Linear outside the body, or the output embedding); norm; bias (of a linear or conv1d); whole (a
            matrix of a module LoRA does not know, carried as it is); other (left out).
        shape: as the model has it.
        transposed: stored (in, out) rather than (out, in).
        tied: other names of the same tensor.
        outputs: those of them that belong to a Linear, where this one is an embedding.
        reason: why it is left out; empty for every kind but ``other``.
    """

    name: str
    module: str
    kind: Kind
    shape: tuple[int, ...]
    transposed: bool
    tied: tuple[str, ...]
    outputs: tuple[str, ...]
    reason: str


def model_class(checkpoint: Checkpoint) -> "type[PreTrainedModel]":
    """The class that ``architectures`` of its configuration names.

    Raises:
        CheckpointError: none is named, or it is not one of transformers' own.
    """
    need_hf()
    import transformers  # noqa: PLC0415

    names: Any = checkpoint.config.get("architectures")
    if not isinstance(names, list) or not names:
        raise CheckpointError(
            f"config.json of {checkpoint.name} must name its class in a list architectures, has {names}; "
            f"save the model with save_pretrained"
        )
    found = getattr(transformers, str(names[0]), None)
    if not isinstance(found, type) or not issubclass(found, transformers.PreTrainedModel):
        raise CheckpointError(
            f"{checkpoint.name} is a {names[0]}, which transformers {transformers.__version__} does not have; "
            f"models that bring their own code are not run: convert it, or update transformers"
        )
    return found


def skeleton(checkpoint: Checkpoint, cls: "type[PreTrainedModel]") -> "PreTrainedModel":
    """A model of that class with the checkpoint's configuration, on the meta device.

    Raises:
        CheckpointError: the configuration does not fit the class.
    """
    config = configuration(checkpoint)
    read = reading(f"config.json of {checkpoint.name}", f"that of a {cls.__name__}", "check it")
    with read, quiet(), torch.device("meta"):
        return cls(config)


def slots_of(model: "PreTrainedModel") -> list[Slot]:
    """Every parameter once, tied ones together, in the model's order."""
    names: dict[int, list[str]] = {}
    parameters: dict[int, Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
        parameters[id(parameter)] = parameter
    return [_slot(model, tuple(names[key]), parameters[key]) for key in names]


def _slot(model: "PreTrainedModel", names: tuple[str, ...], parameter: Tensor) -> Slot:
    # an embedding that is tied to other modules is adapted where the embedding is
    name = next((n for n in names if isinstance(_owner(model, n), nn.Embedding)), names[0])
    owner = _owner(model, name)
    kind, reason = _kind(model, owner, name, parameter)
    transposed = kind == "conv1d" or (kind == "expert" and bool(getattr(owner, "is_transposed", False)))
    tied = tuple(other for other in names if other != name)
    outputs = tuple(other for other in tied if kind == "embedding" and isinstance(_owner(model, other), nn.Linear))
    return Slot(name, name.rpartition(".")[0], kind, tuple(parameter.shape), transposed, tied, outputs, reason)


def _owner(model: "PreTrainedModel", name: str) -> nn.Module:
    return model.get_submodule(name.rpartition(".")[0])


def _kind(model: "PreTrainedModel", owner: nn.Module, name: str, parameter: Tensor) -> tuple[Kind, str]:
    from transformers.pytorch_utils import Conv1D  # noqa: PLC0415

    kind: Kind = "other"
    reason = ""
    last = name.rpartition(".")[2]
    if isinstance(owner, nn.Linear):
        body = model.base_model is model or name.startswith(f"{model.base_model_prefix}.")
        outside = not body or owner is model.get_output_embeddings()
        kind = ("head" if outside else "linear") if last == "weight" else "bias"
    elif isinstance(owner, Conv1D):
        kind = "conv1d" if last == "weight" else "bias"
    elif isinstance(owner, nn.Embedding):
        kind = "embedding"
    elif _is_norm(owner):
        kind = "norm"
    elif isinstance(owner, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.MultiheadAttention):
        reason = f"a {type(owner).__name__} is no plain matrix"
    elif parameter.dim() == 3 and parameter.shape[0] > 1 and "expert" in type(owner).__name__.lower():
        kind = "expert"
    elif parameter.dim() == 2 and last == "weight" and not list(owner.children()):
        kind = "whole"
    else:
        reason = f"a bare parameter of {type(owner).__name__}, which no adapter file can carry"
    return kind, reason


def _is_norm(owner: nn.Module) -> bool:
    known = isinstance(owner, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm1d | nn.BatchNorm2d)
    return known or ("Norm" in type(owner).__name__ and all(p.dim() == 1 for p in owner.parameters(recurse=False)))
