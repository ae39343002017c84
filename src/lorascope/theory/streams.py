"""What the layers of a transformer see of its tokens, and what of their outputs is seen later."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..linalg import numerical_rank, tolerance
from ..models import TransformerNetwork
from ..shapes import Float

__all__ = ["Seen", "align", "centred_basis", "raw", "seen_through"]

# A normalisation's scale is inverted only where its smallest entry is not below this part of the largest.
LEAST_SCALE = 1e-6
# ... and a shift counts as seen beside the other directions where it is not below this part of them.
LEAST_SHIFT = 1e-8


@dataclass(frozen=True)
class Seen:
    """Both networks' input of a layer in coordinates ``y`` they share: ``columns y + shift``.

    Attributes:
        columns, goal_columns: (embed, k), of the adapted and of the target network.
        shift, goal_shift: (embed,).
        weight, bias: parameters the adapted network's normalisation must have; None where it keeps its own.
    """

    columns: Float[Tensor, "embed k"]
    goal_columns: Float[Tensor, "embed k"]
    shift: Float[Tensor, " embed"]
    goal_shift: Float[Tensor, " embed"]
    weight: Float[Tensor, " embed"] | None = None
    bias: Float[Tensor, " embed"] | None = None

    @property
    def shift_is_seen(self) -> bool:
        """Whether the shift is no combination of the columns, so that it can be told apart by a linear map."""
        return _off(self.columns, self.shift)

    @property
    def shifts_agree(self) -> bool:
        """Whether the same linear change of ``columns`` into ``goal_columns`` may also turn shift into goal_shift."""
        if self.shift_is_seen:
            return True
        if self.columns.shape[1] == 0:
            return not float(self.goal_shift.abs().max()) > 0
        share = torch.linalg.lstsq(self.columns, self.shift[:, None], driver="gelsd").solution
        missed = self.goal_shift - (self.goal_columns @ share)[:, 0]
        size = float(self.goal_shift.norm()) + float((self.goal_columns @ share).norm())
        return float(missed.norm()) <= tolerance(len(missed), size, 1e3)

    def with_shift(self) -> tuple[Float[Tensor, "embed c"], Float[Tensor, "embed c"]]:
        """Columns of both networks, the shifts appended where they are seen."""
        if not self.shift_is_seen:
            return self.columns, self.goal_columns
        return (
            torch.cat([self.columns, self.shift[:, None]], dim=1),
            torch.cat([self.goal_columns, self.goal_shift[:, None]], dim=1),
        )


def centred_basis(width: int, like: Tensor) -> Float[Tensor, "embed k"]:
    """Orthonormal basis of the vectors whose entries add up to 0, (embed, embed - 1).

    >>> centred_basis(3, torch.zeros(1, dtype=torch.float64)).sum(dim=0).abs().max() < 1e-15
    tensor(True)
    """
    ones = torch.ones(width, 1, dtype=torch.float64, device=like.device)
    return torch.linalg.svd(ones).U[:, 1:]


def raw(model: TransformerNetwork) -> Seen:
    """The network's own input, or tokens of a stream without normalisation."""
    like = model.output.weight.detach().double()
    eye = torch.eye(len(like), dtype=like.dtype, device=like.device)
    zero = like.new_zeros(len(like))
    return Seen(eye, eye, zero, zero)


def seen_through(norm: nn.LayerNorm, goal: nn.LayerNorm, *, follow: bool, own_bias: bool) -> Seen:
    """Tokens after a normalisation: ``gamma * n + beta``, with n in the centred subspace whatever came in.

    Args:
        norm, goal: of the frozen and of the target network.
        follow: take over the target's parameters, as a stream through the normalisation demands.
        own_bias: whether later biases make up for beta, so that it may stay.
    """
    gamma, beta, goal_gamma, goal_beta = (
        value.detach().double().to(norm.weight.device) for value in (norm.weight, norm.bias, goal.weight, goal.bias)
    )
    basis = centred_basis(len(gamma), gamma)
    target = goal_gamma[:, None] * basis
    if follow or not _invertible(gamma):
        same = torch.equal(gamma, goal_gamma) and torch.equal(beta, goal_beta)
        weight, bias = (None, None) if same else (goal_gamma, goal_beta)
        return Seen(target, target, goal_beta, goal_beta, weight, bias)
    found = Seen(gamma[:, None] * basis, target, beta, goal_beta)
    if own_bias or found.shifts_agree:
        return found
    if not _invertible(goal_gamma):
        return Seen(target, target, goal_beta, goal_beta, goal_gamma, goal_beta)
    # the one shift with which a diagonal map turns the frozen normalisation into the target's
    matched = gamma * goal_beta / goal_gamma
    return Seen(found.columns, target, matched, goal_beta, None, matched)


def align(source: Float[Tensor, "embed hidden"], goal: Float[Tensor, "embed hidden"]) -> Float[Tensor, "embed embed"]:
    """A non-singular ``B`` for which ``B source - goal`` has the least rank found, near the identity where it is free.

    Where ``a^T goal = b^T source`` for some a and b, rows of ``B source`` agree with the goal's if ``a^T B = b^T``:
    ``D - s`` is the rank that s such pairs leave, 0 for square matrices, ``min(D, hidden - D)`` in general.
    """
    embed, hidden = source.shape
    eye = torch.eye(embed, dtype=source.dtype, device=source.device)
    if torch.equal(source, goal):
        return eye
    if hidden <= embed:
        found = eye + (goal - source) @ torch.linalg.pinv(source) if hidden < embed else _quotient(goal, source)
        return found if _conditioned(found) else eye
    both = torch.cat([goal, -source])
    null = torch.linalg.svd(both).U[:, numerical_rank(both, terms=2).rank :]
    a, b = null[:embed], null[embed:]
    found = eye + torch.linalg.pinv(a.T) @ (b.T - a.T)
    return found if _conditioned(found) else eye


def _quotient(goal: Tensor, source: Tensor) -> Tensor:
    found, failed = torch.linalg.solve_ex(source, goal, left=False)
    return torch.zeros_like(source) if failed else found


def _conditioned(matrix: Tensor) -> bool:
    values = torch.linalg.svdvals(matrix)
    return bool(torch.isfinite(values).all()) and float(values[-1]) > 1e-9 * float(values[0])


def _invertible(scale: Tensor) -> bool:
    sizes = scale.abs()
    return float(sizes.min()) > LEAST_SCALE * float(sizes.max())


def _off(columns: Tensor, vector: Tensor) -> bool:
    """Whether a vector has a component off the span of the columns, beyond what rounding leaves."""
    size = float(vector.norm())
    if size == 0 or columns.shape[1] == 0:
        return size > 0
    basis = torch.linalg.qr(columns).Q
    size = max(size, float(torch.linalg.matrix_norm(columns, 2)))
    return float((vector - basis @ (basis.T @ vector)).norm()) > LEAST_SHIFT * size
