"""What a run of gradient steps is told, checked before any work is done."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import SupportsIndex

from ..errors import RankError, SpecError
from ..models import FNN
from ..theory import Model
from .start import ZERO, Start

__all__ = [
    "Member",
    "Setting",
    "bias_names",
    "check_count",
    "check_member",
    "check_rate",
    "check_rates",
    "check_start",
    "layer_names",
    "lora_names",
    "weight_names",
]


@dataclass(frozen=True)
class Member:
    """One run of an ensemble.

    Attributes:
        rank: of every adapter.
        lr: learning rate.
        weight_decay: as in :func:`.lora`.
        tune_bias: whether biases are trained too.
        seed: of the adapters' random start.
        lr_ratio: rate of B relative to ``lr`` (LoRA+).
        start: where the factors and biases start.
    """

    rank: int
    lr: float
    weight_decay: float = 0.0
    tune_bias: bool = True
    seed: int = 0
    lr_ratio: float = 1.0
    start: Start = ZERO


@dataclass(frozen=True)
class Setting:
    """What one run trains, and how: the common form of all methods.

    Attributes:
        ranks: parameter name -> rank of its adapter.
        full: parameters that are trained whole.
        biases: biases that are trained.
        lr, weight_decay, seed, lr_ratio, start: as in :class:`Member`.
    """

    lr: float = 1e-3
    weight_decay: float = 0.0
    seed: int = 0
    ranks: Mapping[str, int] = field(default_factory=dict[str, int])
    full: tuple[str, ...] = ()
    biases: tuple[str, ...] = ()
    lr_ratio: float = 1.0
    start: Start = ZERO


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
    if not listed:
        raise SpecError(f"{name} must be {_wanted(zero)}, or several, got none")
    return [check_rate(name, value, zero=zero) for value in listed]


def check_rate(name: str, value: object, *, zero: bool) -> float:
    """The value, if it is a finite number above 0 (at least 0, where ``zero``).

    Raises:
        SpecError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SpecError(f"{name} must be {_wanted(zero)}, got {value!r}")
    if value < 0 or (value == 0 and not zero):
        raise SpecError(f"{name} must be {_wanted(zero)}, got {value!r}")
    return float(value)


def check_member(member: Member) -> None:
    """Raise unless all of a member's numbers can be used.

    Raises:
        RankError: a rank that is negative or no integer.
        SpecError: a rate or a seed that says nothing usable.
    """
    if isinstance(member.rank, bool) or not isinstance(member.rank, int) or member.rank < 0:
        raise RankError(f"rank must be an integer of at least 0, got {member.rank!r}")
    check_rate("lr", member.lr, zero=False)
    check_rate("weight_decay", member.weight_decay, zero=True)
    check_rate("lr_ratio", member.lr_ratio, zero=False)
    check_count("seed", member.seed, 0)


def check_start(frozen: Model, setting: Setting) -> None:
    """Raise unless the run can start where it says.

    Raises:
        SpecError, RankError, ShapeError: as :meth:`.Start.check` has them.
    """
    if not isinstance(setting.start, Start):
        raise SpecError(f"start must be a tune.Start, got {setting.start!r:.100}")
    shapes = {name: value.shape for name, value in frozen.named_parameters()}
    ranks = {name: rank for name, rank in setting.ranks.items() if rank > 0}
    setting.start.check(ranks, shapes, setting.biases)


def check_count(name: str, value: object, least: int) -> None:
    """Raise unless the value is an integer of at least ``least``.

    Raises:
        SpecError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex) or value.__index__() < least:
        raise SpecError(f"{name} must be an integer of at least {least}, got {value!r}")


def _wanted(zero: bool) -> str:
    return "a finite number " + ("of at least 0" if zero else "above 0")


def _is_bias(name: str) -> bool:
    return name.endswith("bias")
