"""A root of a second moment: weights turned into coordinates in which the norm is the plain one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ShapeError, SpecError
from ..linalg import tolerance
from ..shapes import Float

__all__ = ["Root", "root_of"]


@dataclass(frozen=True)
class Root:
    """``L`` with ``C = L L^T``, and what its pseudo-inverse does.

    Attributes:
        factor: ``L``, (size, k); lower triangular where ``values`` is None.
        values: the eigenvalues of ``C`` kept, of which ``L`` has the scaled eigenvectors; else None.
    """

    factor: Float[Tensor, "size k"]
    values: Float[Tensor, " k"] | None

    def times(self, rows: Float[Tensor, "m size"]) -> Float[Tensor, "m k"]:
        """``X L``."""
        return rows @ self.factor

    def under(self, columns: Float[Tensor, "size m"]) -> Float[Tensor, "k m"]:
        """``L^+ X``."""
        if self.values is not None:
            return (self.factor.T @ columns) / self.values[:, None]
        return torch.linalg.solve_triangular(self.factor, columns, upper=False)

    def over(self, rows: Float[Tensor, "m k"]) -> Float[Tensor, "m size"]:
        """``X L^+``: of all ``Y`` with ``Y L = X`` the one that is zero where ``C`` is."""
        if self.values is not None:
            return (rows / self.values) @ self.factor.T
        return torch.linalg.solve_triangular(self.factor, rows, upper=False, left=False)


def root_of(moment: Float[Tensor, "size other"]) -> Root:
    """A root of a symmetric, positive semi-definite matrix, in float64.

    Cholesky where the matrix is well away from singular, else the eigenvectors of what lies above rounding.

    Args:
        moment: ``C``, a second moment of inputs or of output gradients.

    Raises:
        ShapeError: not square.
        SpecError: not finite, or with an eigenvalue below zero by more than rounding.

    Cost O(size^3), ten times less by Cholesky.

    >>> float(root_of(torch.tensor([[4.0]])).factor)
    2.0
    """
    if moment.shape[0] != moment.shape[1]:
        raise ShapeError(f"a second moment must be square, got shape {list(moment.shape)}")
    if not moment.isfinite().all():
        raise SpecError("a second moment must be finite, got NaN or infinity; check the calibration texts")
    moment = moment.double()
    factor, failed = torch.linalg.cholesky_ex(moment)
    size = len(moment)
    if not failed and size:
        # the squared diagonal is no smaller than the least eigenvalue; near rounding Cholesky's says nothing
        diagonal = factor.diagonal().square()
        if float(diagonal.min()) > tolerance(size, float(diagonal.max())) ** 0.5:
            return Root(factor, None)
    values, vectors = torch.linalg.eigh(moment)
    level = tolerance(size, float(values[-1].abs()) if size else 0.0)
    if size and float(values[0]) < -(level**0.5 * float(values[-1].abs()) ** 0.5):
        raise SpecError(
            f"a second moment must have no negative eigenvalue, got {float(values[0]):.3g} beside "
            f"{float(values[-1]):.3g}; sum outer products"
        )
    keep = values > level
    return Root(vectors[:, keep] * values[keep].sqrt(), values[keep])
