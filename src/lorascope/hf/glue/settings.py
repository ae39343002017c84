"""What one training run on a task is to do."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ...errors import SpecError

__all__ = ["Init", "Method", "Precision", "Settings", "check_settings"]

Method = Literal["lora", "full", "last-layers", "bitfit"]
Init = Literal["pretrained", "random"]
Precision = Literal["float32", "bfloat16"]
RATES: dict[Method, float] = {"lora": 2e-3, "full": 2e-4, "last-layers": 1e-3, "bitfit": 5e-3}
"""Learning rates that do well on a MiniLM in a few hundred steps; large models want less."""


@dataclass(frozen=True)
class Settings:
    """One run.

    Attributes:
        method: what is trained beside the classification head, which always is.
        rank: of every adapter; 0 trains the head alone.
        modules: regular expression on names of linear modules that get adapters; None for all of the body.
        layers: how many of the last layers are trained, for the method ``last-layers``.
        init: the checkpoint's weights, or random ones of the same architecture.
        steps: optimiser steps at most.
        lr: peak learning rate, reached after 6 % of the steps and then falling linearly to 0; None for the method's.
        batch: rows a step, over all devices together.
        length: tokens of a row at most.
        dropout: wherever the model has some, while it is trained.
        weight_decay: of AdamW.
        seed: of the head, the adapters, a random body, the order of rows and dropout.
        precision: of the products while training; weights, and all scores, are float32.
        every: steps between looks at the development set, and between checkpoints.
        patience: looks without a better score after which training stops, and the best is kept; 0 looks only at the
            end, and keeps that.
    """

    method: Method = "lora"
    rank: int = 8
    modules: str | None = None
    layers: int = 1
    init: Init = "pretrained"
    steps: int = 1000
    lr: float | None = None
    batch: int = 32
    length: int = 128
    dropout: float = 0.0
    weight_decay: float = 0.01
    seed: int = 0
    precision: Precision = "float32"
    every: int = 100
    patience: int = 5

    @property
    def rate(self) -> float:
        """The learning rate."""
        return RATES[self.method] if self.lr is None else self.lr

    @property
    def adapts(self) -> bool:
        """Whether there are adapters, rather than weights of the model's own that are trained."""
        return self.method == "lora" and self.rank > 0

    def asked(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return asdict(self) | {"lr": self.rate}


def check_settings(settings: Settings) -> None:
    """Refuse settings that cannot be run.

    Raises:
        SpecError: all faults at once.

    >>> check_settings(Settings(rank=-1, steps=0))
    Traceback (most recent call last):
    lorascope.errors.SpecError: got 2 faults: --rank must be at least 0, got -1; --steps must be at least 1, got 0
    """
    faults = [
        f"--{name} must be at least {least}, got {getattr(settings, name)}"
        for name, least in (
            *(("rank", 0), ("layers", 1), ("steps", 1), ("batch", 1)),
            *(("length", 8), ("seed", 0), ("every", 1), ("patience", 0)),
        )
        if getattr(settings, name) < least
    ]
    if settings.seed >= 2**32:
        faults.append(f"--seed must be below 2^32, got {settings.seed}")
    for name, values in (("method", Method), ("init", Init), ("precision", Precision)):
        if getattr(settings, name) not in get_args(values):
            faults.append(f"--{name} must be one of {', '.join(get_args(values))}, got {getattr(settings, name)!r}")
    if settings.lr is not None and not 0 < settings.lr < 1:
        faults.append(f"--lr must lie between 0 and 1, got {settings.lr}")
    if not 0 <= settings.dropout < 1:
        faults.append(f"--dropout must be at least 0 and below 1, got {settings.dropout}")
    if not 0 <= settings.weight_decay < 1:
        faults.append(f"--weight-decay must be at least 0 and below 1, got {settings.weight_decay}")
    try:
        re.compile(settings.modules or "")
    except re.error as error:
        faults.append(f"--modules must be a regular expression, got {settings.modules!r} ({error})")
    if faults:
        count = "" if len(faults) == 1 else f"got {len(faults)} faults: "
        raise SpecError(count + "; ".join(faults))


def base_name(model: str) -> str:
    """What an adapter calls its base: a hub's name as it is, a folder by its full path."""
    path = Path(model).expanduser()
    return str(path.resolve()) if path.is_dir() else model
