"""A LoRA adapter in PEFT's orientation, and merging adapters into a copy of a model."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import ShapeError
from ..shapes import Float

__all__ = ["Adapter", "merge"]

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Adapter:
    """``delta = B @ A``, to be added to a weight of shape (out, in).

    Attributes:
        A: (rank, in); with a heads axis in front for a weight that has one.
        B: (out, rank); likewise.

    >>> Adapter(A=torch.ones(1, 3), B=torch.ones(2, 1)).delta.shape
    torch.Size([2, 3])
    """

    A: Float[Tensor, "*heads rank inp"]
    B: Float[Tensor, "*heads out rank"]

    def __post_init__(self) -> None:
        if self.A.ndim != self.B.ndim or self.A.shape[-2] != self.B.shape[-1]:
            raise ShapeError(
                f"an adapter needs A (rank, in) and B (out, rank) of one rank, got {tuple(self.A.shape)} and "
                f"{tuple(self.B.shape)}"
            )

    @property
    def rank(self) -> int:
        return self.A.shape[-2]

    @property
    def delta(self) -> Float[Tensor, "*heads out inp"]:
        return self.B @ self.A


def merge(model: Model, adapters: Mapping[str, Adapter], biases: Mapping[str, Tensor] | None = None) -> Model:
    """A copy of ``model`` with every adapter added to its weight and every bias replaced.

    The sum ``W + B A`` is formed in float64 and rounded once to the weight's dtype.

    Args:
        model: left as it is.
        adapters: parameter name -> adapter.
        biases: parameter name -> new value.

    Raises:
        ShapeError: a name the model does not have, or a shape that does not fit it.
    """
    merged = copy.deepcopy(model)
    parameters = dict(merged.named_parameters())
    values = {name: _sum(parameters, name, adapter) for name, adapter in adapters.items()}
    values |= dict(biases or {})
    with torch.no_grad():
        for name, value in values.items():
            if name not in parameters or value.shape != parameters[name].shape:
                came = f"{name} {tuple(value.shape)}"
                known = {key: tuple(p.shape) for key, p in parameters.items()}
                raise ShapeError(f"cannot merge {came}: the model has {known}")
            parameters[name].copy_(value)
    return merged


def _sum(parameters: Mapping[str, Tensor], name: str, adapter: Adapter) -> Tensor:
    delta = adapter.B.double() @ adapter.A.double()
    weight = parameters.get(name)
    return (
        delta if weight is None or weight.shape != delta.shape else weight.detach().double() + delta.to(weight.device)
    )
