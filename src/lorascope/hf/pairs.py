"""Two checkpoints, parameter by parameter: never more than one of them in memory."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import CheckpointError
from .adapter_files import AdapterFiles, adapted_class, open_adapter
from .adapter_updates import adapter_updates
from .checkpoint import ADAPTER_CONFIG, Checkpoint, find_folder, open_checkpoint
from .fitting import check_shapes
from .naming import Source, recipes
from .reading import few
from .slots import Kind, Slot, model_class, skeleton, slots_of
from .stored import same

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["LeftOut", "Models", "Pair", "open_models"]

_SLICE = 1 << 18  # entries at a time


@dataclass(frozen=True)
class Pair:
    """One parameter in the base and in the tuned model, read when asked for.

    Attributes:
        slot: which parameter, and of what kind.
        shape: in the tuned model, as stored; a grown vocabulary has more rows than the base.
        base_shape: in the base; None where the base does not have it (a new head).
        base_dtype, tuned_dtype: as stored; base_dtype None where the base does not have it.
        load_base, load_tuned: read the value as stored.
        load_change: reads the difference itself, where the tuned model is an adapter; else None.
        beside: of a bias, the weight of its module.
    """

    slot: Slot
    shape: tuple[int, ...]
    base_shape: tuple[int, ...] | None
    base_dtype: torch.dtype | None
    tuned_dtype: torch.dtype
    load_base: Callable[[], Tensor] | None
    load_tuned: Callable[[], Tensor]
    load_change: Callable[[], Tensor] | None = None
    beside: Slot | None = None

    @property
    def name(self) -> str:
        return self.slot.name

    @property
    def module(self) -> str:
        return self.slot.module

    @property
    def kind(self) -> Kind:
        return self.slot.kind

    @property
    def entries(self) -> int:
        """How many the tuned model's value has."""
        return math.prod(self.shape)

    @property
    def grown(self) -> int:
        """Rows the tuned model has and the base does not."""
        return self.shape[0] - self.base_shape[0] if self.base_shape else 0

    def base(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Value in the base, in the shape of the tuned model: rows it does not have, or all, are zero."""
        if self.load_base is None:
            return torch.zeros(self.shape, dtype=dtype)
        value = self.load_base().to(dtype)
        if not self.grown:
            return value
        return torch.cat([value, value.new_zeros(self.grown, *self.shape[1:])])

    def tuned(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Value in the tuned model."""
        return self.load_tuned().to(dtype, copy=True)

    def difference(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Tuned minus base, oriented (out, in), for experts (experts, out, in).

        Raises:
            CheckpointError: a value that is not finite.
        """
        if self.load_change is not None:
            return self.oriented(self.load_change().to(dtype))
        if self.load_base is None or self.grown:
            return self.oriented(self.tuned(dtype).sub_(self.base(dtype)))
        difference, old = self.tuned(dtype), self.load_base()
        for part, other in zip(difference.view(-1).split(_SLICE), old.reshape(-1).split(_SLICE), strict=True):
            part.sub_(other.to(dtype))  # the base is never whole in this dtype
        return self.oriented(difference)

    def changed(self) -> bool:
        """Whether the tuned model's value is another one; both are read."""
        if self.load_change is not None:
            return bool(torch.count_nonzero(self.load_change()))
        if self.load_base is None or self.grown:
            return True
        return not same(self.load_base(), self.load_tuned())

    def oriented(self, value: Tensor) -> Tensor:
        """A value as stored, turned to (out, in)."""
        return value.transpose(-1, -2) if self.slot.transposed else value


@dataclass(frozen=True)
class LeftOut:
    """Something that no adapter carries, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Models:
    """A base and a tuned model, opened.

    Attributes:
        base: the base's files.
        tuned: the tuned model's files; an adapter's are its own.
        model: the tuned model's class with its configuration, on the meta device.
        pairs: every parameter that an adapter could carry, alone or with its module, in the model's order.
        left_out: parameters of other kinds and buffers that changed, and tensors that no class uses.
    """

    base: Checkpoint
    tuned: "Checkpoint | AdapterFiles"
    model: "PreTrainedModel"
    pairs: list[Pair]
    left_out: list[LeftOut]


def open_models(base: str, tuned: str) -> Models:
    """Open two checkpoints and match their parameters; reads headers alone.

    Args:
        base: folder or hub name.
        tuned: folder or hub name of a full model, or the folder of a PEFT adapter of the base.

    Returns:
        The pairs.

    Raises:
        CheckpointError: files that cannot be used, or models of two architectures.
        MissingExtraError: transformers or peft is not installed.

    Cost O(tensors).
    """
    frozen = open_checkpoint(base)
    if (find_folder(tuned) / ADAPTER_CONFIG).is_file():
        return _with_adapter(frozen, open_adapter(tuned))
    target = open_checkpoint(tuned)
    model = skeleton(target, model_class(target))
    slots = slots_of(model)
    have, unused = recipes(target.tensors, model)
    plain = _base_skeleton(frozen, model, slots)
    given, unused_base = recipes(frozen.tensors, plain)
    check_shapes(target, model, have)
    check_shapes(frozen, plain, given)
    # such as tables of sines, which the class makes itself
    unsaved: Collection[str] = getattr(model, "_keys_to_ignore_on_save", None) or ()
    needed = [slot for slot in slots if slot.kind != "buffer" and slot.name not in unsaved]
    missing = [slot.name for slot in needed if _find(slot, have) is None]
    if missing:
        raise CheckpointError(
            f"{tuned} must have every weight of a {type(model).__name__}, missing: {few(missing)}; save it again"
        )
    pairs: list[Pair] = []
    left_out = [
        LeftOut(key, "the tuned model's class does not use it")
        for keys, checkpoint in ((unused, target), (unused_base, frozen))
        for key in keys
        if checkpoint.tensors[key].dtype.is_floating_point  # position numbers and the like are no weights
    ]
    for slot in slots:
        value, old = _find(slot, have), _find(slot, given)
        if slot.kind == "buffer" and (value is None) != (old is None):
            which = "tuned model" if old is None else "base"
            left_out.append(LeftOut(slot.name, f"a buffer that only the {which}'s file has"))
        elif value is None:
            continue
        elif not slot.reason:
            pairs.append(_pair(slot, old, value.shape, value.dtype, value.load))
        elif old is None or not same(old.load(), value.load()):
            left_out.append(LeftOut(slot.name, slot.reason))
    return Models(frozen, target, model, _beside(pairs), left_out)


def _with_adapter(frozen: Checkpoint, adapter: AdapterFiles) -> Models:
    model = skeleton(frozen, adapted_class(adapter, frozen))
    slots = slots_of(model)
    given, unused = recipes(frozen.tensors, model)
    check_shapes(frozen, model, given)
    updates = adapter_updates(adapter, slots)
    left_out = [LeftOut(key, "the adapted model's class does not use it") for key in unused]
    pairs: list[Pair] = []
    for slot in slots:
        old, update = _find(slot, given), updates.get(slot.name)
        if update is None and (old is None or slot.reason):
            continue
        if update is None:
            assert old is not None
            pairs.append(_pair(slot, old, old.shape, old.dtype, old.load))
            continue
        if old is None and not update.whole:
            raise CheckpointError(
                f"{adapter.name} changes {slot.name}, which {frozen.name} does not have; name its base"
            )
        shape = update.shape if update.whole or old is None else old.shape
        pair = _pair(slot, old, shape, update.dtype, lambda u=update, o=old: u.applied(o))
        pairs.append(pair if update.whole else replace(pair, load_change=update.load))
    return Models(frozen, adapter, model, _beside(pairs), left_out)


def _pair(
    slot: Slot, old: Source | None, shape: tuple[int, ...], dtype: torch.dtype, load: Callable[[], Tensor]
) -> Pair:
    """A head whose base has another number of labels is new: there is nothing to add a difference to."""
    if old is not None and not (_fits(old.shape, shape) if slot.grows else old.shape == shape):
        old = None
    if old is None:
        return Pair(slot, shape, None, None, dtype, None, load)
    return Pair(slot, shape, old.shape, old.dtype, dtype, old.load, load)


def _beside(pairs: Sequence[Pair]) -> list[Pair]:
    weights = {pair.module: pair.slot for pair in pairs if pair.kind in {"linear", "conv1d", "head"}}
    weights |= {name.rpartition(".")[0]: pair.slot for pair in pairs for name in pair.slot.outputs}
    return [replace(pair, beside=weights.get(pair.module)) if pair.kind == "bias" else pair for pair in pairs]


def _fits(old: Sequence[int], new: Sequence[int]) -> bool:
    """Equal, but for rows added at the end."""
    return tuple(old[1:]) == tuple(new[1:]) and old[0] <= new[0]


def _find(slot: Slot, sources: dict[str, Source]) -> Source | None:
    return next((sources[name] for name in (slot.name, *slot.tied) if name in sources), None)


def _base_skeleton(frozen: Checkpoint, model: "PreTrainedModel", slots: Sequence[Slot]) -> "PreTrainedModel":
    """The tuned model's class with the base's configuration, whose parameters must be the same.

    Raises:
        CheckpointError: they are not.
    """
    if frozen.model_type != model.config.model_type:
        raise CheckpointError(
            f"base and tuned model must be of one architecture, got {frozen.model_type} and "
            f"{model.config.model_type}; name the model that the tuned one was made from"
        )
    other = skeleton(frozen, type(model))
    shapes = {slot.name: slot for slot in slots_of(other)}
    faults = [f"{slot.name} only in the tuned model" for slot in slots if slot.name not in shapes]
    faults += [f"{name} only in the base" for name in shapes if name not in {slot.name for slot in slots}]
    heads = {slot.module for slot in slots if slot.kind == "head"}
    for slot in slots:
        old = shapes.get(slot.name)
        if (
            old is None
            or slot.kind == "buffer"
            or old.shape == slot.shape
            or (slot.grows and _fits(old.shape, slot.shape))
        ):
            continue
        if slot.module not in heads or slot.kind not in {"head", "bias"}:
            faults.append(f"{slot.name} has shape {list(old.shape)} in the base, {list(slot.shape)} in the tuned model")
    if faults:
        raise CheckpointError(
            f"base and tuned model must be of one architecture, but {few(faults)}; "
            f"name the model that the tuned one was made from"
        )
    return other
