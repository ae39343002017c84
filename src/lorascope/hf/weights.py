"""How much a change of a matrix matters, direction by direction on both sides."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..linalg import Leading, leading
from ..shapes import Float
from .moments import Moments

__all__ = ["Weighted", "Weights", "weighted_truncation", "weights_of"]

INPUT_DAMPING, GRADIENT_DAMPING = 1e-4, 1e-3
"""Share of the largest eigenvalue that every direction counts at least: texts that were not seen need it too."""
_NOTHING = 1e-20
_STEPS = 12  # of the power method; the damping needs one digit of the largest eigenvalue


@dataclass(frozen=True)
class Weights:
    """Roots of the second moments: a change ``D`` of a matrix matters as ``|P^T D L|_F``.

    Attributes:
        left: ``P`` (out, out), lower triangular, or (out,) for a diagonal.
        right: ``L`` (inp, inp), the same.
    """

    left: Float[Tensor, "..."]
    right: Float[Tensor, "..."]

    def apply(self, matrix: Float[Tensor, "out inp"]) -> Float[Tensor, "out inp"]:
        """``P^T matrix L``."""
        rows = self.left[:, None] * matrix if self.left.dim() == 1 else self.left.T @ matrix
        return rows * self.right if self.right.dim() == 1 else rows @ self.right

    def undo_left(self, columns: Float[Tensor, "out r"]) -> Float[Tensor, "out r"]:
        """``P^-T columns``."""
        if self.left.dim() == 1:
            return columns / self.left[:, None]
        return torch.linalg.solve_triangular(self.left.T, columns, upper=True)

    def undo_right(self, rows: Float[Tensor, "r inp"]) -> Float[Tensor, "r inp"]:
        """``rows L^-1``."""
        if self.right.dim() == 1:
            return rows / self.right
        return torch.linalg.solve_triangular(self.right, rows, upper=False, left=False)

    def noise(self, plain: float) -> float:
        """Largest singular value that independent entries make once they are weighted, given the plain one.

        ``s (|P|_2 |L|_F + |P|_F |L|_2)`` with ``s = plain / (sqrt(out) + sqrt(inp))``. Source: Chevet's inequality.
        """
        entry = plain / (math.sqrt(self.left.shape[0]) + math.sqrt(self.right.shape[0]))
        return entry * (_top(self.left) * _size(self.right) + _size(self.left) * _top(self.right))


@dataclass(frozen=True)
class Weighted:
    """A truncation, the best one under weights.

    Attributes:
        A: (r, inp); B: (out, r); each direction's share of both has one norm.
        values: (r,), singular values of the weighted matrix, largest first, float64.
        norm: Frobenius norm of the weighted matrix.
    """

    A: Float[Tensor, "r inp"]
    B: Float[Tensor, "out r"]
    values: Float[Tensor, " r"]
    norm: float


def weights_of(moments: Moments, *, centred: bool = False, embedding: bool = False) -> Weights:
    """Damped roots of a matrix's moments.

    Args:
        moments: of one matrix.
        centred: the mean of the inputs does not matter, for a bias takes up what it does.
        embedding: left are tokens, right are gradients.

    Returns:
        The weights, scaled so that ``|P^T D L|_F^2 / 2`` is the divergence of a text, in nats, to second order.

    Cost O(out^3 + inp^3), two Cholesky factorisations.
    """
    right = moments.right
    if centred and moments.mean is not None:
        right = right - (moments.mean.square() if right.dim() == 1 else torch.outer(moments.mean, moments.mean))
    damping = (INPUT_DAMPING, GRADIENT_DAMPING) if embedding else (GRADIENT_DAMPING, INPUT_DAMPING)
    return Weights(_root(moments.left * moments.rows, damping[0]), _root(right, damping[1]))


def weighted_truncation(
    matrix: Float[Tensor, "out inp"], weights: Weights, rank: int, generator: torch.Generator
) -> Weighted:
    """Factors of rank at most ``rank`` with the least ``|P^T (matrix - B A) L|_F``.

    ``B A = P^-T LR_r(P^T matrix L) L^-1``.

    Args:
        matrix: (out, inp).
        weights: of both sides.
        rank: r.
        generator: on the CPU.

    Cost O(out inp (out + inp)) for the products, and a truncation.
    """
    found: Leading = leading(weights.apply(matrix.double()), rank, generator)
    # left is orthonormal, right carries the singular values
    B, A = weights.undo_left(found.left), weights.undo_right(found.right)
    balance = (torch.linalg.vector_norm(A, dim=1) / torch.linalg.vector_norm(B, dim=0)).sqrt()
    return Weighted(A / balance[:, None], B * balance, found.values.double(), found.norm)


def _root(moment: Tensor, damping: float) -> Tensor:
    if moment.dim() == 1:
        top = float(moment.max()) if len(moment) else 0.0
        return (moment + _floor(damping * top)).sqrt()
    damped = moment.clone()
    added = _floor(damping * math.sqrt(_largest(moment)))
    damped.diagonal().add_(added)
    root, failed = torch.linalg.cholesky_ex(damped)
    while failed:  # what is left of inputs that hardly vary once their mean is taken off may be rounding
        damped.diagonal().add_(9 * added)
        added *= 10
        root, failed = torch.linalg.cholesky_ex(damped)
    return root


def _floor(value: float) -> float:
    """Never 0: a side on which nothing was seen weighs all directions alike."""
    return max(value, _NOTHING)


def _largest(root: Tensor) -> float:
    """Largest eigenvalue of ``R R^T`` by the power method, from below."""
    # of no symmetry: the gradients of two classes, say, are opposite
    vector = torch.randn(len(root), generator=torch.Generator().manual_seed(0), dtype=root.dtype).to(root)
    for _ in range(_STEPS):
        size = torch.linalg.vector_norm(vector)
        if size == 0:
            return 0.0
        vector = root @ (root.T @ (vector / size))
    return float(torch.linalg.vector_norm(vector))


def _top(root: Tensor) -> float:
    return float(root.max()) if root.dim() == 1 else math.sqrt(_largest(root))


def _size(root: Tensor) -> float:
    return float(torch.linalg.vector_norm(root))
