"""Whether an adapter does the same to every module that shares a weight."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import CheckpointError
from .adapter_files import PREFIX, AdapterFiles, scale_of
from .slots import Slot
from .stored import Stored, same

__all__ = ["check_ties"]


def check_ties(adapter: AdapterFiles, slots: Sequence[Slot]) -> None:
    """Compare what an adapter holds for each name of a tied weight.

    Each module that shares a weight has factors or a copy of its own, so the adapted modules may differ though the
    base's are one. PEFT's ``ensure_weight_tying`` keeps them equal while it trains, and stores them all.

    Args:
        adapter: opened.
        slots: of the base's model.

    Raises:
        CheckpointError: two of them differ, or one has nothing of what another has.

    Cost O(entries held of tied weights); two modules' in memory.
    """
    for slot in slots:
        # of biases only one name is that of a module which adds it
        names = [name for name in (slot.name, *slot.tied) if name.endswith(".weight")]
        if len(names) > 1:
            _check(adapter, names)


def _check(adapter: AdapterFiles, names: Sequence[str]) -> None:
    own = {name: adapter.tensors[name] for name in names if name in adapter.tensors and _copied(adapter, name)}
    # the rest is put into the weight that they share
    given = [name for name in names if name not in own] + [name[:-6] + "base_layer.weight" for name in names]
    shared = [adapter.tensors[name] for name in given if name in adapter.tensors]
    values = [own.get(name, shared[0] if shared else None) for name in names]
    factors = _factors(adapter, names[0])
    for name, value in zip(names[1:], values[1:], strict=True):
        if not (_same_value(value, values[0]) and _same(_factors(adapter, name), factors)):
            raise CheckpointError(
                f"{adapter.name} must change {names[0]} and {name} alike, for its base ties them, but it does not; "
                f"untie a copy of the base (a weight of its own for each, tie_word_embeddings false), merge the "
                f"adapter into that, and name these two"
            )
    if not all(_same_value(value, shared[0]) for value in shared):
        raise CheckpointError(f"{adapter.name} gives {names[0]}, which its base ties, several values; save it again")


def _copied(adapter: AdapterFiles, name: str) -> bool:
    """Whether PEFT carries a weight's module whole, alone or inside another; it looks at how names end."""
    asked: Sequence[str] = adapter.config.get("modules_to_save") or ()
    parts = name.split(".")
    return any((PREFIX + ".".join(parts[:depth])).endswith(tuple(asked)) for depth in range(1, len(parts)))


def _factors(adapter: AdapterFiles, name: str) -> tuple[Tensor, ...] | None:
    """B and A of a weight, those of an embedding turned to be like a Linear's, and their scale.

    None where there are none, and where their product is zero.
    """
    module, tensors = name.removesuffix(".weight"), adapter.tensors
    plain = [tensors.get(f"{module}.lora_{side}.weight") for side in "BA"]
    turned = [tensors.get(f"{module}.lora_embedding_{side}") for side in "AB"]
    b, a = (None if stored is None else stored.load() for stored in (plain if plain[0] else turned))
    if b is None or a is None:
        return None  # one alone is found elsewhere
    if not plain[0]:
        b, a = b.T, a.T
    if not (b.any() and a.any()):
        return None
    return b, a, torch.tensor(scale_of(adapter.config, module, a.shape[0]), dtype=torch.float64)


def _same_value(one: Stored | None, other: Stored | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or same(one.load(), other.load())


def _same(one: tuple[Tensor, ...] | None, other: tuple[Tensor, ...] | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(same(part, twin) for part, twin in zip(one, other, strict=True))
