"""What an adapter does to each parameter of its base."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import CheckpointError
from .adapter_files import AdapterFiles, scale_of
from .adapter_ties import check_ties
from .naming import Source
from .slots import MATRICES, Slot
from .stored import Stored

__all__ = ["Update", "adapter_updates"]

_SHOWN = 3  # faults that a message names
_FACTOR = re.compile(r"(.+)\.lora_(embedding_)?([AB])(?:\.(weight|bias))?$")

_NEW_BIAS = ".lora_B.bias"


@dataclass(frozen=True)
class Update:
    """The change of one parameter.

    Attributes:
        shape: of the parameter, as the model has it.
        dtype: of what the adapter stores.
        whole: the value itself rather than a difference.
        rank: of a difference; 0 for a value or a bias.
        load: reads it, in float64.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    whole: bool
    rank: int
    load: Callable[[], Tensor]

    def applied(self, base: Source | None) -> Tensor:
        """The parameter's value once the adapter is added, in float64."""
        if self.whole:
            return self.load()
        assert base is not None
        return base.load().double().add_(self.load())


def adapter_updates(adapter: AdapterFiles, slots: Sequence[Slot]) -> dict[str, Update]:
    """Every parameter that an adapter changes.

    Args:
        adapter: opened.
        slots: of the base's model.

    Returns:
        By the parameters' names.

    Raises:
        CheckpointError: a tensor that fits no parameter, or modules that share a weight and are changed differently.

    Cost O(tensors), and O(entries) of what is held of shared weights.
    """
    by_name = {name: slot for slot in slots for name in (slot.name, *slot.tied)}
    values: dict[str, Update] = {}
    sums: dict[str, Update] = {}
    unknown: list[str] = []
    faults: list[str] = []
    heads = {slot.module for slot in slots if slot.kind == "head"}
    for key, stored in adapter.tensors.items():
        match = _FACTOR.match(key)
        if match is not None and match[3] == "B" and match[4] != "bias":
            _factors(adapter, match[1], match[2] or "")
            continue  # read with its A
        slot, update = _one(adapter, key, stored, by_name, slots)
        if slot is None or update is None:
            unknown.append(key)
            continue
        if not _fits(slot, update, heads):
            faults.append(f"{key} makes a change of shape {list(update.shape)}, {slot.name} has {list(slot.shape)}")
            continue
        kept = values if update.whole else sums
        # the other names of a tied parameter repeat this
        if slot.name not in kept or key.startswith(f"{slot.module}."):
            kept[slot.name] = update
    new = [key for key in unknown if key.endswith(_NEW_BIAS) and key.replace(_NEW_BIAS, ".weight") in by_name]
    if new:
        raise CheckpointError(
            f"{adapter.name} gives biases to {len(new)} modules that have none in its base (lora_bias), such as "
            f"{new[0].removesuffix(_NEW_BIAS)}, which no change of its base's parameters is; train it without"
        )
    if unknown:
        raise CheckpointError(
            f"{adapter.name} has {len(unknown)} tensors that fit no parameter of its base, such as {unknown[0]}; "
            f"name the model the adapter was made for"
        )
    if faults:
        raise CheckpointError(
            f"{adapter.name} must have the shapes of its base, but {'; '.join(faults[:_SHOWN])} "
            f"({len(faults)} in all); name the model the adapter was made for, or save it again"
        )
    check_ties(adapter, slots)
    # PEFT may store an embedding's base beside its factors
    both = {name: _added(values[name], sums[name]) for name in values.keys() & sums.keys()}
    return {**values, **sums, **both}


def _fits(slot: Slot, update: Update, heads: Collection[str]) -> bool:
    """The parameter's shape; of a whole head or a vocabulary another number of rows."""
    rows_may_differ = update.whole and (slot.grows or slot.module in heads)
    skipped = int(rows_may_differ)
    return len(update.shape) == len(slot.shape) and update.shape[skipped:] == slot.shape[skipped:]


def _one(
    adapter: AdapterFiles, key: str, stored: Stored, by_name: dict[str, Slot], slots: Sequence[Slot]
) -> tuple[Slot | None, Update | None]:
    match = _FACTOR.match(key)
    if match is None:
        return by_name.get(key.replace(".base_layer.", ".")), _value(stored)
    module, embedding, _, ending = match.groups()
    if ending == "bias":
        scale = _scale(adapter, module, _factors(adapter, module)[1].shape[0])
        return by_name.get(f"{module}.bias"), Update(stored.shape, stored.dtype, False, 0, _scaled(stored, scale))
    slot = _target(adapter, module, by_name, slots)
    return slot, None if slot is None else _product(adapter, module, embedding or "", slot)


def _added(value: Update, change: Update) -> Update:
    return Update(value.shape, value.dtype, True, change.rank, lambda: value.load().add_(change.load()))


def _value(stored: Stored) -> Update:
    return Update(stored.shape, stored.dtype, True, 0, lambda: stored.load().double())


def _scaled(stored: Stored, scale: float) -> Callable[[], Tensor]:
    return lambda: stored.load().double() * scale


def _scale(adapter: AdapterFiles, module: str, rank: int) -> float:
    return scale_of(adapter.config, module.replace(".base_layer", ""), rank)


def _by_parameter(adapter: AdapterFiles, slot: Slot) -> bool:
    """Whether the configuration asks for a parameter by its own name, or by its end, rather than for its module."""
    asked: Sequence[str] = adapter.config.get("target_parameters") or ()
    return any(f".{slot.name}".endswith(f".{name}") for name in asked)


def _target(adapter: AdapterFiles, module: str, by_name: dict[str, Slot], slots: Sequence[Slot]) -> Slot | None:
    """The matrix that a module's factors change; for stacked experts, which of them the nesting means."""
    plain = by_name.get(f"{module}.weight")
    if plain is not None:
        return plain
    depth = module.count(".base_layer")
    owner = module.replace(".base_layer", "")
    experts = [slot for slot in slots if slot.module == owner and _by_parameter(adapter, slot)]
    # the module's first parameter is wrapped first, so it lies deepest
    return experts[len(experts) - 1 - depth] if depth < len(experts) else None


def _product(adapter: AdapterFiles, module: str, embedding: str, slot: Slot) -> Update:
    if slot.kind not in {*MATRICES, "whole"}:
        raise CheckpointError(
            f"factors must be those of plain matrices, {adapter.name} has some of {slot.name} "
            f"({slot.reason or f'a {slot.kind} parameter'}); merge the adapter into its base and name the merged model"
        )
    left, right = _factors(adapter, module, embedding)
    experts = slot.shape[0] if slot.kind == "expert" else 1
    if right.shape[0] % experts:
        raise CheckpointError(
            f"factors of {experts} experts must have one rank each, {adapter.name} has A {list(right.shape)} of "
            f"{module}; save it again"
        )
    shape = left.shape[0], right.shape[1]
    rank = right.shape[0] // experts
    target = slot.name if _by_parameter(adapter, slot) else module
    scale = _scale(adapter, target, rank)

    def load() -> Tensor:
        b, a = left.load().double() * scale, right.load().double()
        if slot.kind == "expert":
            b = b.reshape(b.shape[0], rank, experts).permute(2, 0, 1)  # experts, out, rank
            a = a.reshape(experts, rank, a.shape[1])  # experts, rank, in
        delta = b @ a
        return delta.transpose(-1, -2) if slot.transposed or embedding else delta

    if slot.transposed or embedding:
        shape = shape[::-1]
    return Update((experts, *shape) if slot.kind == "expert" else shape, left.dtype, False, rank, load)


def _factors(adapter: AdapterFiles, module: str, embedding: str = "") -> tuple[Stored, Stored]:
    """B and A of one module.

    Raises:
        CheckpointError: one is missing, or they are no matrices of one rank.
    """
    ending = "" if embedding else ".weight"
    left, right = (adapter.tensors.get(f"{module}.lora_{embedding}{side}{ending}") for side in "BA")
    if left is None or right is None:
        raise CheckpointError(f"{adapter.name} has only one factor of {module}; save it again")
    if len(left.shape) != 2 or len(right.shape) != 2 or left.shape[1] != right.shape[0]:
        raise CheckpointError(
            f"factors must be matrices of one rank, {adapter.name} has B {list(left.shape)} and A {list(right.shape)} "
            f"of {module}; save it again, or merge it where the module is no plain matrix"
        )
    return left, right
