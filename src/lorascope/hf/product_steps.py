"""The two halves of a product refinement, each an exact weighted truncation, where the norm is the plain one."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..linalg import leading, tolerance
from ..models import Adapter
from ..shapes import Float

__all__ = ["Heads", "gap_norm", "out_step", "value_step"]


_CANCELLED = 1e-6  # share of two terms' squares that their sum must keep for Gram matrices to resolve it
_SQUARABLE = 1e-6  # squared singular values, least to largest, whose Gram matrix keeps ten digits


@dataclass(frozen=True)
class Heads:
    """Value and output matrices by head; query head ``h`` of group ``k`` uses the group's value rows.

    Attributes:
        value, value_tuned: ``V_k`` and ``V_k'``, (groups, head_dim, inp). Columns that no adapter reaches come last.
        out, out_tuned: ``O_h`` and ``O_h'``, (groups, share, out, head_dim).
        reached: columns of the values that the adapter acts on.
    """

    value: Float[Tensor, "groups head_dim inp"]
    value_tuned: Float[Tensor, "groups head_dim inp"]
    out: Float[Tensor, "groups share out head_dim"]
    out_tuned: Float[Tensor, "groups share out head_dim"]
    reached: int

    def with_value(self, adapter: Adapter) -> "Heads":
        """The base with an adapter on its values."""
        groups, head_dim, inp = self.value.shape
        delta = torch.nn.functional.pad(adapter.delta, (0, inp - self.reached))
        return replace(self, value=self.value + delta.view(groups, head_dim, inp))

    def with_out(self, adapter: Adapter) -> "Heads":
        """The base with an adapter on its outputs."""
        return replace(self, out=self.out + split_out(adapter.delta, self.out.shape[0], self.out.shape[3]))


def split_out(matrix: Float[Tensor, "out cols"], groups: int, head_dim: int) -> Float[Tensor, "groups share out d"]:
    """Columns by group and head."""
    out, cols = matrix.shape
    return matrix.view(out, groups, cols // (groups * head_dim), head_dim).permute(1, 2, 0, 3)


def gap_norm(heads: Heads) -> float:
    """``sqrt(sum_h |O_h' V_k' - O_h V_k|_F^2)`` without forming a product.

    The gap is ``O' (V' - V) + (O' - O) V``, two terms whose Gram matrices give its norm; the triangles of
    ``[O', O' - O]`` and ``[V' - V; V]`` where the terms all but cancel.

    Cost O(heads out head_dim^2 + groups inp head_dim^2).
    """
    left = heads.out_tuned.flatten(1, 2), (heads.out_tuned - heads.out).flatten(1, 2)
    right = heads.value_tuned - heads.value, heads.value
    # |X Y|^2 = <X^T X, Y Y^T>
    terms = [float(((x.mT @ x) * (y @ y.mT)).sum()) for x, y in zip(left, right, strict=True)]
    squared = sum(terms) + 2 * float(((left[0].mT @ left[1]) * (right[0] @ right[1].mT)).sum())
    if squared > _CANCELLED * sum(terms):
        return math.sqrt(squared)
    triangles = [torch.linalg.qr(side, mode="r")[1] for side in (torch.cat(left, 2), torch.cat(right, 1).mT)]
    return float(torch.linalg.vector_norm(triangles[0] @ triangles[1].mT))


def value_step(base: Heads, now: Heads, given: Adapter, generator: torch.Generator, rank: int) -> Adapter:
    """The best adapter of the values beside fixed outputs.

    With ``O_k = Q S W^T`` the stacked outputs of a group's heads, ``|R_k - O_k dV_k|^2`` is a constant and
    ``|Q^T R_k - S W^T dV_k|^2``: ``dV = W S^+ LR_r(Q^T R)``, all groups' rows below one another.

    Args:
        base: its values are the ones adapted.
        now: its outputs are the fixed ones, adapter included.
        given: the adapter so far, kept where the step finds none better.
        generator: draws the start of the truncation.
        rank: r.

    Source: reduced-rank regression, Izenman 1975. Cost O(heads out head_dim^2 + groups head_dim inp (head_dim + r)).
    """
    groups, head_dim, _ = base.value.shape
    basis, scaled, inverse = _thin(now.out.flatten(1, 2))
    behind = basis.mT @ (now.out_tuned - now.out).flatten(1, 2)
    target = behind @ base.value_tuned + scaled @ (base.value_tuned - base.value)
    target = target[..., : base.reached].flatten(0, 1)
    kept = (scaled @ given.B.view(groups, head_dim, given.rank)).flatten(0, 1) @ given.A
    found = leading(target, rank, generator)
    if found.residual >= float(torch.linalg.matrix_norm(target - kept)):
        return given
    left = found.left.view(groups, scaled.shape[1], len(found.right))
    return Adapter(found.right, (inverse @ left).flatten(0, 1))


def out_step(base: Heads, now: Heads, given: Adapter, generator: torch.Generator, rank: int) -> Adapter:
    """The best adapter of the outputs beside fixed values; the mirror image of :func:`value_step`.

    With ``V_k = W S Q^T``: ``dO = LR_r(R Q) S^+ W^T``, all heads' columns beside one another.

    Args:
        base: its outputs are the ones adapted.
        now: its values are the fixed ones, adapter included.
        given: the adapter so far, kept where the step finds none better.
        generator: draws the start of the truncation.
        rank: r.

    Source: reduced-rank regression, Izenman 1975. Cost O(groups inp head_dim^2 + heads out head_dim (head_dim + r)).
    """
    share = base.out.shape[1]
    basis, scaled, inverse = _thin(now.value.mT)
    ahead = (now.value_tuned - now.value) @ basis
    target = (base.out_tuned - base.out) @ scaled.mT[:, None] + base.out_tuned @ ahead[:, None]
    target = target.permute(2, 0, 1, 3).flatten(1)
    kept = given.B @ _turned(given.A, scaled, share)
    found = leading(target, rank, generator)
    if found.residual >= float(torch.linalg.matrix_norm(target - kept)):
        return given
    return Adapter(_turned(found.right, inverse, share), found.left)


def _turned(rows: Tensor, turn: Tensor, share: int) -> Tensor:
    """Each head's columns times its group's ``turn^T``."""
    groups, after, before = turn.shape
    parts = rows.view(len(rows), groups, share, before)
    return torch.einsum("rgsd,ged->rgse", parts, turn).reshape(len(rows), groups * share * after)


def _thin(matrix: Float[Tensor, "groups long short"]) -> tuple[Tensor, Tensor, Tensor]:
    """``Q``, ``S W^T`` and ``W S^+`` of each ``Q S W^T``; directions of no weight are zero in all three."""
    squares, turn = torch.linalg.eigh(matrix.mT @ matrix)
    if squares.numel() and float(squares.min()) > _SQUARABLE * float(squares.max()):
        values = squares.sqrt()[:, None]  # (groups, 1, short)
        inverse = turn / values
        return matrix @ inverse, (turn * values).mT, inverse
    orthogonal, triangle = torch.linalg.qr(matrix)
    left, values, right = torch.linalg.svd(triangle, full_matrices=False)
    level = tolerance(max(matrix.shape[1:]), float(values.max()) if values.numel() else 0.0)
    keep = values > level
    inverse = torch.where(keep, 1 / torch.where(keep, values, 1.0), 0.0)
    values = values * keep
    return (orthogonal @ left) * keep[:, None], values[:, :, None] * right, right.mT * inverse[:, None]
