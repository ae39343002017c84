"""The product of adapted weights near one set of adapters: its residual, its Jacobian, Gauss-Newton steps."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..linalg import prefixes, suffixes
from ..shapes import Float

__all__ = ["Tangent"]

# Up to this width the (width^2 x width^2) normal matrix is formed and factorised; beyond, conjugate gradients, which
# are faster but lose their way on the ill-conditioned tangents of deep products.
DENSE_WIDTH = 24
DENSE_WIDTH_DEEP = 64
DEEP = 5
# ... and up to this one where conjugate gradients have not arrived after a while.
DENSE_WIDTH_HARD = 40
CG_STEPS = 600
CG_STEPS_SMALL = 120


class Tangent:
    """First-order model of ``F(B, A) = prod_l (W_l + B_l A_l) - goal`` at one point.

    ``dF = sum_l S_l dB_l (A_l P_l) + (S_l B_l) dA_l P_l`` with ``P_l`` the adapted product before layer ``l`` and
    ``S_l`` the one after it. All matrices are square of one width; ranks are equal (pad with zeros).

    Attributes:
        residual: ``F``, (width, width).
        error: its Frobenius norm relative to the goal's, or to the frozen factors' where the goal is zero.

    A step costs O(width^6) where the normal matrix is factorised, else 20 width^3 an iteration.
    """

    def __init__(
        self,
        weights: Float[Tensor, "depth width width"],
        goal: Float[Tensor, "width width"],
        left: Float[Tensor, "depth width rank"],
        right: Float[Tensor, "depth rank width"],
    ) -> None:
        adapted = weights + left @ right
        before = prefixes(adapted)
        self.left, self.right = left, right
        self.before = before[:-1]
        self.after = suffixes(adapted)[1:]
        self.residual = before[-1] - goal
        size, frozen = float(goal.norm()), float(weights.flatten(1).norm(dim=1).prod())
        # a goal of zero up to rounding is measured against what has to be taken away
        self.error = float(self.residual.norm()) / (size if size > 1e-13 * frozen else max(frozen, 1e-300))
        self.inner = right @ self.before  # depth rank width
        self.outer = self.after @ left  # depth width rank
        self._normal: tuple[Tensor, Tensor] | None = None
        self._dense: Tensor | None = None
        self._precondition: Callable[[Tensor], Tensor] | None = None

    def push(
        self, left: Float[Tensor, "depth width rank"], right: Float[Tensor, "depth rank width"]
    ) -> Float[Tensor, "width width"]:
        """The Jacobian applied to a change of the factors."""
        return (self.after @ left @ self.inner + self.outer @ right @ self.before).sum(0)

    def pull(
        self, change: Float[Tensor, "width width"]
    ) -> tuple[Float[Tensor, "depth width rank"], Float[Tensor, "depth rank width"]]:
        """The Jacobian's transpose applied to a change of the product."""
        return self.after.mT @ (change @ self.inner.mT), (self.outer.mT @ change) @ self.before.mT

    @property
    def scale(self) -> float:
        """Mean diagonal entry of ``J J^T``, the unit of the damping."""
        width = self.residual.shape[-1]
        square = lambda stack: stack.square().sum((1, 2))  # noqa: E731
        total = square(self.after) * square(self.inner) + square(self.before) * square(self.outer)
        return float(total.sum()) / width**2

    def solve(
        self, change: Float[Tensor, "width width"], damping: float, tolerance: float = 0.1
    ) -> Float[Tensor, "width width"] | None:
        """``(J J^T + damping * scale * I)^{-1} change``; ``None`` where no factorisation exists.

        Conjugate gradients stop at a residual of ``tolerance`` relative to ``change``, or after 600 steps with the best
        they have: the caller checks what the step does.
        """
        shift = damping * self.scale
        if change.shape[-1] <= (DENSE_WIDTH if len(self.left) < DEEP else DENSE_WIDTH_DEEP):
            return self._cholesky(change, shift)
        if self._precondition is None:
            self._precondition = self._kronecker()
        solution = self._conjugate_gradients(change, shift, tolerance * float(change.norm()), self._precondition)
        if solution is None and change.shape[-1] <= DENSE_WIDTH_HARD:
            return self._cholesky(change, shift)
        return solution

    def _grams(self) -> tuple[Tensor, Tensor]:
        if self._normal is None:
            self._normal = self.after @ self.after.mT, self.before.mT @ self.before
        return self._normal

    def _cholesky(self, change: Tensor, shift: float) -> Tensor | None:
        width = change.shape[-1]
        if self._dense is None:
            after, before = self._grams()
            rows = torch.cat([after, self.outer @ self.outer.mT]).flatten(1)
            columns = torch.cat([self.inner.mT @ self.inner, before]).flatten(1)
            dense = (rows.T @ columns).view(width, width, width, width)
            self._dense = dense.transpose(1, 2).reshape(width**2, width**2)
        shifted = self._dense.clone()
        shifted.diagonal().add_(shift)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if failed:
            return None
        return torch.cholesky_solve(change.reshape(-1, 1), factor).view_as(change)

    def _apply(self, change: Tensor) -> Tensor:
        after, before = self._grams()
        first = after @ (change @ self.inner.mT) @ self.inner
        return first.add_(self.outer @ (self.outer.mT @ change @ before)).sum(0)

    def _kronecker(self) -> Callable[[Tensor], Tensor]:
        """Inverse of a two-term Kronecker approximation ``X1 x Y1 + X2 x Y2`` of ``J J^T``.

        Each sum over layers is replaced by one Kronecker product with the same partial traces; both terms are then
        diagonalised together by two generalised symmetric eigenproblems.
        """
        after, before = self._grams()
        x1, y1 = _nearest_kronecker(after, self.inner.mT @ self.inner)
        x2, y2 = _nearest_kronecker(self.outer @ self.outer.mT, before)
        x_values, x_basis = _joint_eigen(x2, x1)
        y_values, y_basis = _joint_eigen(y2, y1)
        weight = 1 + x_values.clamp(min=0)[:, None] * y_values.clamp(min=0)
        return lambda change: x_basis @ ((x_basis.T @ change @ y_basis) / weight) @ y_basis.T

    def _conjugate_gradients(
        self, change: Tensor, shift: float, enough: float, precondition: Callable[[Tensor], Tensor]
    ) -> Tensor | None:
        solution = torch.zeros_like(change)
        rest = change.contiguous().clone()
        direction = step = precondition(rest).contiguous()
        slope = float(torch.vdot(rest.view(-1), step.view(-1)))
        small = len(change) <= DENSE_WIDTH_HARD
        for _ in range(CG_STEPS_SMALL if small else CG_STEPS):
            image = self._apply(direction).add_(direction, alpha=shift)
            curvature = float(torch.vdot(direction.view(-1), image.view(-1)))
            if not (curvature > 0 and math.isfinite(curvature)):
                break
            solution.add_(direction, alpha=slope / curvature)
            rest.sub_(image, alpha=slope / curvature)
            if float(torch.linalg.vector_norm(rest)) < enough:
                return solution
            step = precondition(rest)
            last, slope = slope, float(torch.vdot(rest.view(-1), step.view(-1)))
            direction = torch.add(step, direction, alpha=slope / last)
        return None if small else solution


def _nearest_kronecker(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    row_traces = rows.diagonal(dim1=1, dim2=2).sum(1)
    column_traces = columns.diagonal(dim1=1, dim2=2).sum(1)
    total = (row_traces * column_traces).sum().sqrt().clamp(min=torch.finfo(rows.dtype).tiny)
    return (
        torch.einsum("l,lij->ij", column_traces, rows) / total,
        torch.einsum("l,lij->ij", row_traces, columns) / total,
    )


def _joint_eigen(matrix: Tensor, metric: Tensor) -> tuple[Tensor, Tensor]:
    """``values, C`` with ``C^T metric C = I`` and ``C^T matrix C`` diagonal."""
    eye = torch.eye(len(metric), dtype=metric.dtype, device=metric.device)
    floor = 1e-14 * metric.trace() / len(metric)
    factor, failed = torch.linalg.cholesky_ex(metric + floor * eye)
    if failed:  # rank-deficient beyond the floor: precondition with the other term alone
        return torch.ones(len(metric), dtype=metric.dtype, device=metric.device), eye
    half = torch.linalg.solve_triangular(factor, matrix, upper=False)
    inner = torch.linalg.solve_triangular(factor, half.T, upper=False)
    values, vectors = torch.linalg.eigh((inner + inner.T) / 2)
    return values, torch.linalg.solve_triangular(factor.T, vectors, upper=True)
