"""Where the inputs live, and what is known of hidden values when they do."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ShapeError, SpecError
from ..shapes import Float

__all__ = ["Ball", "Box", "Domain", "Region", "contains", "region_of"]


@dataclass(frozen=True)
class Ball:
    """All inputs of Euclidean norm at most ``radius``; for transformers, of every token.

    Raises:
        SpecError: a radius that is negative, infinite or no number.

    >>> Ball(2.0).radius
    2.0
    """

    radius: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.radius) and self.radius >= 0):
            raise SpecError(f"a Ball needs a finite radius of at least 0, got {self.radius}")


@dataclass(frozen=True, eq=False)
class Box:
    """All inputs with ``low <= x <= high``, coordinate by coordinate; for transformers, of every token.

    Args:
        low, high: (width,) each, as a tensor or a sequence of numbers.

    Raises:
        ShapeError: bounds of different or no length.
        SpecError: an empty box, or bounds that are not finite.

    >>> Box([0.0, 0.0], [1.0, 2.0]).high.tolist()
    [1.0, 2.0]
    """

    low: Tensor | Sequence[float]
    high: Tensor | Sequence[float]

    def __post_init__(self) -> None:
        low = torch.as_tensor(self.low, dtype=torch.float64)
        high = torch.as_tensor(self.high, dtype=torch.float64)
        if low.ndim != 1 or low.shape != high.shape or len(low) == 0:
            raise ShapeError(f"a Box needs low and high of one length, got {tuple(low.shape)} and {tuple(high.shape)}")
        if not (torch.isfinite(low).all() and torch.isfinite(high).all()):
            raise SpecError(
                "a Box needs finite bounds; for unbounded inputs choose how far to go, e.g. Ball(12 sqrt(D))"
            )
        if (low > high).any():
            index = int((low > high).nonzero()[0])
            raise SpecError(f"the Box is empty: low {low[index]:g} is above high {high[index]:g} at coordinate {index}")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Box):
            return False
        pairs = ((self.low, other.low), (self.high, other.high))
        return all(torch.equal(torch.as_tensor(own), torch.as_tensor(its)) for own, its in pairs)

    def __hash__(self) -> int:
        return hash((tuple(torch.as_tensor(self.low).tolist()), tuple(torch.as_tensor(self.high).tolist())))


Domain = Ball | Box


def contains(domain: Domain, points: Float[Tensor, "*batch inp"]) -> bool:
    """Whether all points lie in the domain; coordinates beyond a point's are not asked for.

    >>> contains(Ball(1.0), torch.tensor([[0.6, 0.8], [0.0, 1.1]]))
    False
    """
    if isinstance(domain, Ball):
        return bool((points.norm(dim=-1) <= domain.radius).all())
    low, high = (torch.as_tensor(bound).to(points)[: points.shape[-1]] for bound in (domain.low, domain.high))
    return bool(((points >= low) & (points <= high)).all())


@dataclass(frozen=True)
class Region:
    """Values known to lie in a box and in a ball: ``low <= z <= high`` and ``|z - centre| <= radius``.

    The ball keeps correlations that boxes lose: layer after layer, the box grows with the rows' sums of moduli,
    the ball with the spectral norm.
    """

    low: Float[Tensor, " width"]
    high: Float[Tensor, " width"]
    centre: Float[Tensor, " width"]
    radius: float

    def bounds(self, matrix: Float[Tensor, "out width"]) -> tuple[Float[Tensor, " out"], Float[Tensor, " out"]]:
        """Least and largest value of each row of ``matrix @ z``; the tighter of box and ball."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        box, spread = matrix @ middle, matrix.abs() @ half
        ball, reach = matrix @ self.centre, matrix.norm(dim=1) * self.radius
        return torch.maximum(box - spread, ball - reach), torch.minimum(box + spread, ball + reach)

    def largest_norm(self, matrix: Float[Tensor, "out width"], offset: Float[Tensor, " out"] | None = None) -> float:
        """Upper bound on the Euclidean norm of ``matrix @ z + offset``."""
        shift = matrix.new_zeros(len(matrix)) if offset is None else offset
        low, high = self.bounds(matrix)
        by_rows = torch.maximum((low + shift).abs(), (high + shift).abs()).norm()
        by_norm = (matrix @ self.centre + shift).norm() + torch.linalg.matrix_norm(matrix, 2) * self.radius
        return float(torch.minimum(by_rows, by_norm))

    def largest_moduli(self) -> Float[Tensor, " width"]:
        return torch.maximum(self.low.abs(), self.high.abs())

    def affine(self, matrix: Float[Tensor, "out width"], offset: Float[Tensor, " out"]) -> "Region":
        """Where ``matrix @ z + offset`` lies."""
        low, high = self.bounds(matrix)
        radius = float(torch.linalg.matrix_norm(matrix, 2)) * self.radius
        return Region(low + offset, high + offset, matrix @ self.centre + offset, radius)

    def relu(self) -> "Region":
        """Where ``ReLU(z)`` lies; ReLU moves no two points apart."""
        return Region(self.low.clamp(min=0), self.high.clamp(min=0), self.centre.clamp(min=0), self.radius)


def region_of(domain: Domain, width: int, inputs: int, like: Tensor) -> Region:
    """The domain as a region of ``width`` coordinates, of which the last ``width - inputs`` are zero.

    Args:
        domain: of ``inputs`` coordinates, or of ``width``.
        width: of the frozen model.
        inputs: coordinates the target takes.
        like: sets device.

    Raises:
        SpecError: neither a Ball nor a Box.
        ShapeError: a Box of another length.
    """
    if not isinstance(domain, Ball | Box):
        raise SpecError(f"domain must be a Ball or a Box, got {domain!r}")
    pad = lambda values: torch.nn.functional.pad(values.to(like.device), (0, width - len(values)))  # noqa: E731
    if isinstance(domain, Ball):
        bound = torch.full((inputs,), domain.radius, dtype=torch.float64)
        return Region(pad(-bound), pad(bound), pad(torch.zeros_like(bound)), domain.radius)
    low, high = torch.as_tensor(domain.low), torch.as_tensor(domain.high)
    if len(low) not in (inputs, width):
        raise ShapeError(f"the Box must have {inputs} coordinates, one for each input, got {len(low)}")
    middle, half = (low + high) / 2, (high - low) / 2
    return Region(pad(low), pad(high), pad(middle), float(half.norm()))
