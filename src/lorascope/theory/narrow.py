"""Products of two matrices that meet in few dimensions: the heads of transformers as people use them."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..linalg import NumericalRank, numerical_rank, tolerance
from ..shapes import Float

__all__ = ["Gauge", "NarrowMatch"]

# A pair counts as a kept direction only where both networks have a share in it: its parts, of norm 1 together, are
# both at least this long. Below, the gauge that maps one to the other is too ill-conditioned to be of use.
LEAST_SHARE = 1e-7


@dataclass(frozen=True)
class Gauge:
    """Directions of the inner space in which neither factor has to change, if the gauge ``G`` maps them right.

    Adapted factors are ``second_goal G^{-1}`` and ``G first_goal``. The first factor stays as it is along ``a`` where
    ``G^T a = b`` for a pair with ``a^T first = b^T first_goal``; the second one where ``G b = a`` for a pair with
    ``second a = second_goal b``.

    Attributes:
        first_goal: (inner, k), and ``second_goal``: (m, inner), whose product is what is wanted.
        first_pairs: ``a, b`` as columns, (inner, s) each, both of full column rank.
        second_pairs: likewise.
        clash: rank of ``b_first^T b_second - a_first^T a_second``: kept directions that exclude each other.
    """

    first_goal: Float[Tensor, "inner k"]
    second_goal: Float[Tensor, "m inner"]
    first_pairs: tuple[Float[Tensor, "inner s"], Float[Tensor, "inner s"]]
    second_pairs: tuple[Float[Tensor, "inner t"], Float[Tensor, "inner t"]]
    clash: int


@dataclass(frozen=True)
class NarrowMatch:
    """Adapted factors must satisfy ``left @ (second + D_2) @ (first + D_1) @ right = goal_second @ goal_first``.

    With an inner dimension d below both outer ones the wanted product determines the adapted factors up to a gauge:
    ``G goal_first`` and ``goal_second G^{-1}`` for a non-singular G. So ranks have to add up to the gap, and each alone
    has to bring in the directions that its frozen factor lacks: ``rank [first; goal_first] - d`` for the first.

    Attributes:
        names: parameter names of the first and of the second factor.
        first: (inner, inp), frozen, acts first.
        second: (out, inner), frozen.
        left, right: (m, out) and (inp, k), fixed.
        goal_first, goal_second: (goal, k) and (m, goal), with goal at most inner; none (goal 0) wants a product of 0.
        head: index into the heads axis of the parameters, None where they have none.
        transposed: whether a factor stands in the product as the parameter's transpose.
        dtype: of the models, for the tolerance of ranks.

    Source: new; Zeng & Lee 2024 treat d = D only (Theorem 7). Cost O(D^3).

    >>> draw = lambda *shape: torch.randn(*shape, dtype=torch.float64)
    >>> eye = torch.eye(6, dtype=torch.float64)
    >>> NarrowMatch(("query", "key"), draw(4, 6), draw(6, 4), eye, eye, draw(4, 6), draw(6, 4)).least_ranks
    (3, 3)
    """

    names: tuple[str, str]
    first: Float[Tensor, "inner inp"]
    second: Float[Tensor, "out inner"]
    left: Float[Tensor, "m out"]
    right: Float[Tensor, "inp k"]
    goal_first: Float[Tensor, "goal k"]
    goal_second: Float[Tensor, "m goal"]
    head: int | None = None
    transposed: tuple[bool, bool] = (False, False)
    dtype: torch.dtype = torch.float64

    @property
    def inner(self) -> int:
        return self.first.shape[0]

    @cached_property
    def seen_first(self) -> Float[Tensor, "inner k"]:
        return self.first @ self.right

    @cached_property
    def seen_second(self) -> Float[Tensor, "m inner"]:
        return self.left @ self.second

    @cached_property
    def wanted(self) -> Float[Tensor, "m k"]:
        return self.goal_second @ self.goal_first

    @cached_property
    def error(self) -> Float[Tensor, "m k"]:
        """``wanted`` minus what the frozen product gives."""
        return self.wanted - self.seen_second @ self.seen_first

    @cached_property
    def gap(self) -> NumericalRank:
        """Rank of :attr:`error`: no adapters whose ranks add up to less are exact."""
        scale = _norm(self.goal_second) * _norm(self.goal_first) + _norm(self.seen_second) * _norm(self.seen_first)
        return numerical_rank(self.error, scale=scale, terms=4, dtype=self.dtype)

    @cached_property
    def gauge(self) -> Gauge:
        """What can be kept of the frozen factors."""
        return _gauge(self)

    @cached_property
    def _needs(self) -> tuple[int, int, int]:
        """Least rank of the first, of the second, and of both together."""
        first, second = (self.inner - p[0].shape[1] for p in (self.gauge.first_pairs, self.gauge.second_pairs))
        return first, second, max(first + second + self.gauge.clash, self.gap.rank)

    @property
    def least_cap(self) -> int:
        """Least rank which, given to both factors, closes the gap."""
        first, second, total = self._needs
        return min(max(first, second, -(-total // 2)), self.inner) if self.gap.rank else 0

    @property
    def least_ranks(self) -> tuple[int, int]:
        """Least ranks: smallest maximum, then smallest sum, the larger one first where there is a choice."""
        if self.gap.rank == 0:
            return (0, 0)
        first, second, total = self._needs
        while first + second < total:
            if first <= second:
                first += 1
            else:
                second += 1
        return (min(first, self.inner), min(second, self.inner))

    def closed_by(self, ranks: tuple[int, ...]) -> bool:
        """Whether these ranks suffice."""
        first, second, total = self._needs
        given = tuple(min(rank, self.inner) for rank in ranks)
        return self.gap.rank == 0 or (given[0] >= first and given[1] >= second and sum(given) >= total)


def _gauge(match: NarrowMatch) -> Gauge:
    inner, dtype = match.inner, match.dtype
    goal_first, goal_second = match.goal_first, match.goal_second
    full = goal_first.shape[0] == inner and all(_rank(goal, dtype) == inner for goal in (goal_first, goal_second))
    if not full:  # as many rows as the wanted product has rank, the others to be chosen
        left, values, right = torch.linalg.svd(match.wanted, full_matrices=False)
        scale = max(_norm(goal_second) * _norm(goal_first), 1e-300)
        root = values[values > tolerance(max(match.wanted.shape), scale, dtype=dtype)][:inner].sqrt()
        goal_first, goal_second = root[:, None] * right[: len(root)], left[:, : len(root)] * root
    first = _pairs(match.seen_first, goal_first, dtype)
    second = _pairs(match.seen_second.T, goal_second.T, dtype)
    if not full:
        goal_first, goal_second, first, second = _filled(match, goal_first, goal_second, first, second)
    crossed = first[1].T @ second[1] - first[0].T @ second[0]
    scale = _norm(first[1]) * _norm(second[1]) + _norm(first[0]) * _norm(second[0])
    clash = numerical_rank(crossed, scale=scale, terms=4, dtype=dtype).rank if crossed.numel() else 0
    return Gauge(goal_first, goal_second, first, second, clash)


def _pairs(frozen: Tensor, goal: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Columns ``a, b`` with ``a^T frozen = b^T goal``, as many as are independent on both sides."""
    ours, theirs = max(_norm(frozen), 1e-300), max(_norm(goal), 1e-300)
    both = torch.cat([frozen / ours, -goal / theirs])
    null = torch.linalg.svd(both).U[:, _rank(both, dtype) :]
    a, b = null[: len(frozen)], null[len(frozen) :]
    for part in (0, 1):  # directions in which one network has no share are no pairs
        if a.shape[1]:
            _, values, basis = torch.linalg.svd((a, b)[part], full_matrices=False)
            keep = basis[values > LEAST_SHARE].T
            a, b = a @ keep, b @ keep
    return a / ours, b / theirs


def _filled(
    match: NarrowMatch,
    goal_first: Tensor,
    goal_second: Tensor,
    first: tuple[Tensor, Tensor],
    second: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Rows for a goal of too small a rank: each the frozen one's in one factor, zero in the other.

    They are taken from inner directions that no pair uses, in the numbers that keep the larger rank smallest.
    """
    inner, rank = match.inner, goal_first.shape[0]
    missing = inner - rank
    used = torch.cat([first[0], second[0]], dim=1)
    order = torch.linalg.svd(used).U.flip(1) if used.shape[1] else torch.eye(inner).to(used)
    to_first = min(max((missing + second[0].shape[1] - first[0].shape[1] + 1) // 2, 0), missing)
    ours, theirs = order[:, :to_first], order[:, to_first:missing]
    zeros = match.wanted.new_zeros
    goal_first = torch.cat([goal_first, ours.T @ match.seen_first, zeros(missing - to_first, goal_first.shape[1])])
    goal_second = torch.cat(
        [goal_second, zeros(goal_second.shape[0], to_first), match.seen_second @ theirs],
        dim=1,
    )
    unit = torch.eye(inner, dtype=ours.dtype, device=ours.device)
    pad = torch.nn.functional.pad
    first = (
        torch.cat([first[0], ours], dim=1),
        torch.cat([pad(first[1], (0, 0, 0, missing)), unit[:, rank : rank + to_first]], dim=1),
    )
    second = (
        torch.cat([second[0], theirs], dim=1),
        torch.cat([pad(second[1], (0, 0, 0, missing)), unit[:, rank + to_first :]], dim=1),
    )
    return goal_first, goal_second, first, second


def _rank(matrix: Tensor, dtype: torch.dtype) -> int:
    return numerical_rank(matrix, terms=2, dtype=dtype).rank if matrix.numel() else 0


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2)) if matrix.numel() else 0.0
