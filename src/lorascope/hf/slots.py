"""What each parameter of a model is, from its class built without memory."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import getsource, isfunction
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from ..errors import CheckpointError
from .checkpoint import Checkpoint
from .configuration import configuration
from .extra import need_hf
from .quiet import quiet
from .reading import reading

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["MATRICES", "Kind", "Slot", "model_class", "skeleton", "slots_of"]

Kind = Literal["linear", "conv1d", "embedding", "expert", "head", "norm", "bias", "whole", "bare", "buffer", "other"]
MATRICES: tuple[Kind, ...] = ("linear", "conv1d", "embedding", "expert", "head")
"""Kinds that a low-rank difference can carry."""

_FUSED = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
"""Models whose kernels read the weight of out_proj past its forward; PEFT refuses factors of it."""


@dataclass(frozen=True)
class Slot:
    """One parameter of a model, under its first name.

    Attributes:
        name: the parameter's, e.g. ``model.layers.0.mlp.up_proj.weight``.
        module: that of the module that owns it.
        kind: linear; conv1d (transformers', stored transposed); embedding; expert (one matrix an expert, stacked);
            head (a Linear outside the body, or the output embedding); norm; bias (of a linear or conv1d); whole (a
            matrix of a module LoRA does not know, carried as it is); bare (a convolution's, or one that no layer owns:
            carried with its whole module); buffer (no parameter, carried with its whole module too); other (left out).
        shape: as the model has it.
        transposed: stored (in, out) rather than (out, in).
        tied: other names of the same tensor.
        outputs: those of them that belong to a Linear, where this one is an embedding.
        grows: a row for each entry of a vocabulary or table, so that a tuned model may have more.
        reason: why it is left out, as ``other`` always is and a buffer may be; else empty.
    """

    name: str
    module: str
    kind: Kind
    shape: tuple[int, ...]
    transposed: bool
    tied: tuple[str, ...]
    outputs: tuple[str, ...]
    grows: bool
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
    """Every parameter once, tied ones together, in the model's order; then the buffers that its files hold."""
    names: dict[int, list[str]] = {}
    parameters: dict[int, Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
        parameters[id(parameter)] = parameter
    slots = [_slot(model, tuple(names[key]), parameters[key]) for key in names]
    return slots + _buffers(model, slots)


def _slot(model: "PreTrainedModel", names: tuple[str, ...], parameter: Tensor) -> Slot:
    # what is tied is adapted where the embedding is; a bias shared with a bare parameter, where the Linear is
    owners = {name: _owner(model, name) for name in names}
    known = (name for layer in (nn.Embedding, nn.Linear) for name in names if isinstance(owners[name], layer))
    name = next(known, names[0])
    owner = owners[name]
    kind, reason = _kind(model, owner, name, parameter)
    transposed = kind == "conv1d" or (kind == "expert" and bool(getattr(owner, "is_transposed", False)))
    tied = tuple(other for other in names if other != name)
    outputs = tuple(other for other in tied if kind == "embedding" and isinstance(owners[other], nn.Linear))
    grows = kind == "embedding" or owner is model.get_output_embeddings()
    shape = tuple(parameter.shape)
    return Slot(name, name.rpartition(".")[0], kind, shape, transposed, tied, outputs, grows, reason)


def _buffers(model: "PreTrainedModel", slots: Sequence[Slot]) -> list[Slot]:
    known = {name for slot in slots for name in (slot.name, *slot.tied)}
    whole = {slot.module for slot in slots if slot.kind in {"norm", "whole", "bare"}}
    made: list[Slot] = []
    for name, value in model.state_dict().items():
        if name not in known:
            module = name.rpartition(".")[0]
            reason = f"a buffer of {type(_owner(model, name)).__name__}, whose module is not carried whole"
            reason = "" if module in whole else reason
            made.append(Slot(name, module, "buffer", tuple(value.shape), False, (), (), False, reason))
    return made


def _owner(model: "PreTrainedModel", name: str) -> nn.Module:
    return model.get_submodule(name.rpartition(".")[0])


def _kind(model: "PreTrainedModel", owner: nn.Module, name: str, parameter: Tensor) -> tuple[Kind, str]:
    from transformers.pytorch_utils import Conv1D  # noqa: PLC0415

    kind: Kind = "other"
    reason = ""
    last = name.rpartition(".")[2]
    fused = model.config.model_type in _FUSED and name.endswith(".out_proj.weight")
    if isinstance(owner, nn.Linear) and (fused or not _multiplies(owner)):
        kind = "whole"
    elif isinstance(owner, nn.Linear):
        body = model.base_model is model or name.startswith(f"{model.base_model_prefix}.")
        outside = not body or owner is model.get_output_embeddings()
        kind = ("head" if outside else "linear") if last == "weight" else "bias"
    elif isinstance(owner, Conv1D):
        kind = "conv1d" if last == "weight" else "bias"
    elif isinstance(owner, nn.Embedding):
        kind = "embedding" if _looks_up(owner) and not _read(model, owner, name) else "whole"
    elif _is_norm(owner):
        reason = _unfit(model, owner)
        kind = "other" if reason else "norm"
    elif parameter.dim() == 3 and parameter.shape[0] > 1 and "expert" in type(owner).__name__.lower():
        kind = "expert"
    elif parameter.dim() == 2 and last == "weight" and not list(owner.children()):
        kind = "whole"
    else:
        reason = _unfit(model, owner)
        kind = "other" if reason else "bare"
    return kind, reason


def _multiplies(owner: nn.Linear) -> bool:
    """Whether its code returns its product with the input alone, to which PEFT adds the factors'; routers do more."""
    if type(owner).forward is nn.Linear.forward:
        return True
    try:
        made = owner(torch.empty(1, owner.in_features, dtype=owner.weight.dtype, device=owner.weight.device))
    except (RuntimeError, TypeError, ValueError):
        return False
    return isinstance(made, Tensor) and made.shape == (1, owner.out_features)


def _looks_up(owner: nn.Embedding) -> bool:
    """Whether it is called with row numbers alone, as PEFT calls it; what is done to the rows may be a scale."""
    return type(owner).forward is nn.Embedding.forward or getattr(owner, "embed_scale", None) is not None


def _read(model: "PreTrainedModel", owner: nn.Embedding, name: str) -> bool:
    """Whether the code of the module around a table takes more of it than its ``forward``, where PEFT's factors act."""
    if owner is _vocabulary(model):
        return False
    above, _, attribute = name.rpartition(".")[0].rpartition(".")
    try:
        # of each function, not of the class: finding a class parses its file, which Python 3.11 does not let threads do
        methods = filter(isfunction, vars(type(model.get_submodule(above))).values())
        code = "\n".join(getsource(method) for method in methods)
    except OSError:
        return False
    # its type or place alone is not its value; its size PEFT's layer does not have
    taken = rf"\bself\.{re.escape(attribute)}\.(weight\b(?!\.(dtype|device|shape|data)\b)|num_embeddings\b)"
    return re.search(taken, code) is not None


def _unfit(model: "PreTrainedModel", owner: nn.Module) -> str:
    """Why no adapter carries a parameter that LoRA has no factors for with its whole module; empty where one does."""
    from transformers.pytorch_utils import Conv1D  # noqa: PLC0415

    inside = list(owner.modules())
    matrices = any(isinstance(module, nn.Linear | Conv1D) or "Expert" in type(module).__name__ for module in inside)
    why = ""
    if matrices or _vocabulary(model) in inside:
        why = "its module holds matrices that get factors, so it is not carried whole"
    elif type(owner).forward is nn.Module.forward or any(isinstance(module, ParametrizationList) for module in inside):
        why = "its module is never called as one"
    return why and f"a parameter of {type(owner).__name__} that LoRA has no factors for, and {why}"


def _vocabulary(model: "PreTrainedModel") -> nn.Module | None:
    try:
        found = model.get_input_embeddings()
    except NotImplementedError:
        return None
    return found if isinstance(found, nn.Embedding) else None  # of images it is the patches' convolution


def _is_norm(owner: nn.Module) -> bool:
    known = isinstance(owner, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm1d | nn.BatchNorm2d)
    return known or ("Norm" in type(owner).__name__ and all(p.dim() == 1 for p in owner.parameters(recurse=False)))
