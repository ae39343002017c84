"""Where a run starts."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..adaptation import Adaptation
from ..errors import RankError, ShapeError, SpecError

__all__ = ["SPREAD", "ZERO", "Start"]

Kind = Literal["zero", "random", "near"]
SPREAD = 0.25  # standard deviation of a factor's random start, as in the paper's experiments


@dataclass(frozen=True)
class Start:
    """The factors and biases that a run starts from.

    Attributes:
        kind: ``"zero"``: A ~ N(0, 0.25^2), B = 0, so that the first delta is zero. ``"random"``: A and B both
            ~ N(0, 0.25^2). ``"near"``: an adaptation's own factors and biases; where its ranks are smaller than the
            run's, the rest starts as for ``"zero"``.
        adaptation: for ``"near"``, of the same frozen model.
        noise: for ``"near"``: standard deviation of what is added to every factor and bias, relative to its root mean
            square.

    Raises:
        SpecError: another kind, ``"near"`` nothing, something that is not near, or noise that is no size.

    >>> Start("near", noise=0.1)
    Traceback (most recent call last):
    lorascope.errors.SpecError: a start needs an adaptation if and only if it is "near" one, got kind 'near' and none
    """

    kind: Kind = "zero"
    adaptation: Adaptation[Any] | None = None
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise SpecError(f"kind of start must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if (self.kind == "near") != (self.adaptation is not None):
            came = "none" if self.adaptation is None else "one"
            raise SpecError(
                f'a start needs an adaptation if and only if it is "near" one, got kind {self.kind!r} and {came}'
            )
        if not isinstance(self.noise, int | float) or not 0 <= self.noise < math.inf:
            raise SpecError(f"noise of a start must be a finite number of at least 0, got {self.noise!r}")
        if self.noise and self.kind != "near":
            raise SpecError(f'noise of a start is for the kind "near", got {self.noise!r} for {self.kind!r}')

    def check(self, ranks: dict[str, int], shapes: dict[str, torch.Size], biases: tuple[str, ...]) -> None:
        """Raise unless a run with adapters of these ranks, and these biases trained, can start here.

        Args:
            ranks: parameter name -> rank.
            shapes: parameter name -> shape, of the whole model.
            biases: those that are trained.

        Raises:
            SpecError: the adaptation changes what the run does not.
            RankError: its ranks are larger than the run's.
            ShapeError: it is of another model.
        """
        if self.adaptation is None:
            return
        adapters, others = self.adaptation.adapters, self.adaptation.biases
        extra = [name for name in adapters if name not in ranks] + [name for name in others if name not in biases]
        if extra:
            raise SpecError(f"the adaptation to start near changes {extra}, which the run does not train")
        for name, adapter in adapters.items():
            if tuple(adapter.delta.shape) != tuple(shapes[name]):
                raise ShapeError(
                    f"the adaptation to start near has a delta of {name} of shape {tuple(adapter.delta.shape)}, the "
                    f"frozen model {tuple(shapes[name])}"
                )
            if adapter.rank > ranks[name]:
                raise RankError(
                    f"the adaptation to start near has rank {adapter.rank} in {name}, the run {ranks[name]}; raise its "
                    "rank, or start near one of less"
                )

    def right(self, name: str, shape: tuple[int, ...], source: torch.Generator, like: Tensor) -> Tensor:
        """A, of shape (..., rank, inp)."""
        found = _drawn(shape, source, like)
        if self.adaptation is not None and name in self.adaptation.adapters:
            known = self.adaptation.adapters[name].A
            found[..., : known.shape[-2], :] = known.to(found)
        return found

    def left(self, name: str, shape: tuple[int, ...], source: torch.Generator, like: Tensor) -> Tensor:
        """B, of shape (..., out, rank)."""
        if self.kind == "random":
            return _drawn(shape, source, like)
        found = like.new_zeros(shape)
        if self.adaptation is not None and name in self.adaptation.adapters:
            known = self.adaptation.adapters[name].B
            found[..., : known.shape[-1]] = known.to(found)
        return found

    def bias(self, name: str, frozen: Tensor) -> Tensor:
        """The value a trained bias starts from, where the frozen model has ``frozen``."""
        if self.adaptation is not None and name in self.adaptation.biases:
            return self.adaptation.biases[name].detach().to(frozen)
        return frozen.detach()

    def disturbed(self, values: Tensor, source: torch.Generator) -> Tensor:
        """The values with noise, of their own size, added."""
        if not self.noise:
            return values
        size = self.noise * float(values.double().square().mean().sqrt())
        draws = torch.randn(values.shape, generator=source, dtype=values.dtype)
        return values + size * draws.to(values.device)


ZERO = Start()


def _drawn(shape: tuple[int, ...], source: torch.Generator, like: Tensor) -> Tensor:
    return SPREAD * torch.randn(shape, generator=source, dtype=like.dtype).to(like.device)
