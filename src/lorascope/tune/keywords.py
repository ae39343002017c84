"""Keywords that all gradient methods take, said once."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, get_args

import torch
from torch import Tensor

from ..adaptation import Domain, Sampler
from ..errors import SpecError
from ..optim import ObjectiveName
from .compiled import EngineName
from .engine import Observer, Progress
from .settings import check_count, check_rate

__all__ = ["How", "Keywords", "Optimizer", "Steps", "showing"]

Optimizer = Literal["adam", "adamw"]
Function = TypeVar("Function", bound=Callable[..., Any])


class Keywords(TypedDict, total=False):
    """As in :func:`.lora`; defaults are those of :class:`How`."""

    objective: ObjectiveName
    optimizer: Optimizer
    domain: Domain | None
    samples: Tensor | None
    sampler: Sampler | None
    held_out: Tensor | None
    checkpoint: Path | None
    checkpoint_every: float
    progress: Progress | None
    observe: Observer | None
    engine: EngineName


class Steps(Keywords, total=False):
    """The same, and how many steps on what."""

    steps: int
    batch: int
    generator: torch.Generator | None
    validate_every: int


@dataclass(frozen=True)
class How:
    """What is common to all runs of a call; each as in :func:`.lora`.

    Raises:
        SpecError: a value that says nothing usable.
    """

    steps: int = 5000
    batch: int = 256
    generator: torch.Generator | None = None
    validate_every: int = 1
    objective: ObjectiveName = "mse"
    optimizer: Optimizer = "adam"
    domain: Domain | None = None
    samples: Tensor | None = None
    sampler: Sampler | None = None
    held_out: Tensor | None = None
    checkpoint: Path | None = None
    checkpoint_every: float = 30.0
    progress: Progress | None = None
    observe: Observer | None = None
    engine: EngineName = "auto"

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("batch", 1), ("validate_every", 0)):
            check_count(name, getattr(self, name), least)
        if self.optimizer not in get_args(Optimizer):
            raise SpecError(f"optimizer must be one of {', '.join(get_args(Optimizer))}, got {self.optimizer!r}")
        check_rate("checkpoint_every", self.checkpoint_every, zero=True)
        if self.checkpoint is not None and self.sampler is not None:
            raise SpecError(
                "a checkpoint needs draws that can be repeated: give samples, or neither samples nor sampler, got a "
                "sampler"
            )

    @property
    def source(self) -> torch.Generator:
        """The generator given, or one of seed 0."""
        return torch.Generator().manual_seed(0) if self.generator is None else self.generator


def showing(keywords: type) -> Callable[[Function], Function]:
    """Let ``help`` and :func:`inspect.signature` show a function's ``**how`` one by one, with defaults, as editors do.

    Args:
        keywords: the typed dictionary that ``**how`` is.
    """
    defaults = {field.name: field.default for field in fields(How)}
    assert MISSING not in defaults.values()

    def shown(function: Function) -> Function:
        signature = inspect.signature(function)
        known = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=kind)
            for name, kind in inspect.get_annotations(keywords).items()
        ]
        function.__signature__ = signature.replace(parameters=[*known, *more])  # pyright: ignore[reportFunctionMemberAccess]
        return function

    return shown
