"""What a run of gradient steps is told, checked before any work is done."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import SupportsIndex

import torch

from ..errors import RankError, SpecError
from ..models import FNN
from ..theory import Model

__all__ = [
    "Member",
    "Setting",
    "bias_names",
    "check_count",
    "check_counts",
    "check_member",
    "check_rates",
    "layer_names",
    "lora_names",
    "source_of",
    "weight_names",
]


@dataclass(frozen=True)
class Member:
    """One run of an ensemble.

    Attributes:
        rank: of every adapter.
        lr: learning rate.
        weight_decay: added to the gradient, times the parameter (L2, as in torch's Adam).
        tune_bias: whether biases are trained too.
        seed: of the adapters' random start.
    """

    rank: int
    lr: float
    weight_decay: float = 0.0
    tune_bias: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Setting:
    """What one run trains, and how: the common form of all methods.

    Attributes:
        ranks: parameter name -> rank of its adapter.
        full: parameters that are trained whole.
        biases: biases that are trained.
        lr, weight_decay, seed: as in :class:`Member`.
    """

    lr: float = 1e-3
    weight_decay: float = 0.0
    seed: int = 0
    ranks: Mapping[str, int] = field(default_factory=dict[str, int])
    full: tuple[str, ...] = ()
    biases: tuple[str, ...] = ()


def weight_names(model: Model) -> list[str]:
    """All weight matrices, first layer first."""
    return [name for name, _ in model.named_parameters() if not _is_bias(name) and "norm" not in name]


def bias_names(model: Model) -> list[str]:
    """All biases, first layer first."""
    return [name for name, _ in model.named_parameters() if _is_bias(name) and "norm" not in name]


def lora_names(model: Model) -> list[str]:
    """The weights that get an adapter by default: all of an FNN's, of a transformer those Theorem 7 adapts."""
    if isinstance(model, FNN):
        return weight_names(model)
    last = f"blocks.{model.depth - 1}.ffn_out.weight"
    return [name for name in weight_names(model) if "ffn" not in name or name == last]


def layer_names(model: Model, layers: int) -> list[str]:
    """The parameters of the last layers, or of the last blocks and what follows them."""
    prefix = "layers." if isinstance(model, FNN) else "blocks."
    early = tuple(f"{prefix}{index}." for index in range(model.depth - layers))
    return [name for name, _ in model.named_parameters() if not name.startswith(early)] if layers else []


def check_rates(name: str, values: float | Sequence[float], *, zero: bool) -> list[float]:
    """One rate or several, as a list.

    Raises:
        SpecError: none, or one that is no finite number above 0 (at least 0, where ``zero``).
    """
    listed: list[object] = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values]
    wanted = "a finite number " + ("of at least 0" if zero else "above 0")
    if not listed:
        raise SpecError(f"{name} must be {wanted}, or several, got none")
    return [_rate(name, value, wanted, zero) for value in listed]


def check_member(member: Member) -> None:
    """Raise unless all of a member's numbers can be used.

    Raises:
        RankError: a rank that is negative or no integer.
        SpecError: a rate or a seed that says nothing usable.
    """
    if isinstance(member.rank, bool) or not isinstance(member.rank, int) or member.rank < 0:
        raise RankError(f"rank must be an integer of at least 0, got {member.rank!r}")
    check_rates("lr", member.lr, zero=False)
    check_rates("weight_decay", member.weight_decay, zero=True)
    check_count("seed", member.seed, 0)


def check_counts(steps: int, batch: int, validate_every: int) -> None:
    """Raise unless all three are integers that are not too small.

    Raises:
        SpecError: one that is not.
    """
    for name, value, least in (("steps", steps, 0), ("batch", batch, 1), ("validate_every", validate_every, 0)):
        check_count(name, value, least)


def check_count(name: str, value: object, least: int) -> None:
    """Raise unless the value is an integer of at least ``least``.

    Raises:
        SpecError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex) or value.__index__() < least:
        raise SpecError(f"{name} must be an integer of at least {least}, got {value!r}")


def source_of(generator: torch.Generator | None) -> torch.Generator:
    """The generator given, or one of seed 0."""
    return torch.Generator().manual_seed(0) if generator is None else generator


def _rate(name: str, value: object, wanted: str, zero: bool) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SpecError(f"{name} must be {wanted}, got {value!r}")
    if value < 0 or (value == 0 and not zero):
        raise SpecError(f"{name} must be {wanted}, got {value!r}")
    return float(value)


def _is_bias(name: str) -> bool:
    return name.endswith("bias")
