"""Parameters of a family: factors and biases, for many members at once or for one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...shapes import Float
from .family import Family

__all__ = ["Point", "forward", "mean_square"]


@dataclass(frozen=True, eq=False)
class Point:
    """``ReLU((P_j + right B A) z + b)`` for every group ``j`` of a family.

    Attributes:
        right: ``A``, (*members, rank, inp) each.
        left: ``B``, (*members, out, rank) each.
        biases: ``b``, (*members, out) each.
    """

    right: tuple[Float[Tensor, "*members _ _"], ...]
    left: tuple[Float[Tensor, "*members _ _"], ...]
    biases: tuple[Float[Tensor, "*members _"], ...]

    @classmethod
    def of(cls, parts: Sequence[Tensor]) -> "Point":
        """From the list of all ``A``, then all ``B``, then all ``b``."""
        depth = len(parts) // 3
        return cls(tuple(parts[:depth]), tuple(parts[depth : 2 * depth]), tuple(parts[2 * depth :]))

    def parts(self) -> list[Tensor]:
        return [*self.right, *self.left, *self.biases]

    def member(self, index: int | Tensor) -> "Point":
        """One member, or several (an index tensor keeps the axis)."""
        return Point.of([part[index] for part in self.parts()])

    def double(self) -> "Point":
        return Point.of([part.double() for part in self.parts()])

    def weights(self, family: Family) -> list[Float[Tensor, "*members _ _"]]:
        """``P + B A`` of every group."""
        return [
            weight.to(left) + left @ right
            for weight, left, right in zip(family.weights, self.left, self.right, strict=True)
        ]


def forward(
    weights: Sequence[Float[Tensor, "*members _ _"]],
    biases: Sequence[Float[Tensor, "*members _"]],
    inputs: Float[Tensor, "samples _"],
) -> Float[Tensor, "*members samples _"]:
    """Outputs of ReLU networks, all members on the same inputs."""
    hidden = inputs
    for weight, bias in zip(weights, biases, strict=True):
        hidden = torch.relu(hidden @ weight.mT + bias[..., None, :])
    return hidden


def mean_square(
    family: Family, point: Point, inputs: Float[Tensor, "samples inp"], outputs: Float[Tensor, "samples out"]
) -> Float[Tensor, "*members"]:
    """Mean over samples and coordinates of the squared error, member by member."""
    found = forward(point.weights(family), point.biases, inputs.to(point.biases[0]))
    return (found - outputs.to(found)).square().mean((-1, -2))
