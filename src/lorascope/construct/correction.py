"""What has to be added to a frozen product: all of the error, or the best part of it that the ranks allow."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..linalg import truncate
from ..shapes import Float
from ..theory import Match

__all__ = ["Correction", "correction_of", "through"]


@dataclass(frozen=True)
class Correction:
    """What is added to the frozen product: ``outputs @ inputs``, of rank at most the ranks' sum.

    Attributes:
        outputs: (out, r).
        inputs: (r, inp), of full row rank.
        closed: whether the correction is the whole error up to rounding.
        left_out: spectral norm of the part of the error that is not corrected (in the match's own coordinates).
    """

    outputs: Float[Tensor, "out r"]
    inputs: Float[Tensor, "r inp"]
    closed: bool
    left_out: float


def correction_of(match: Match, total: int) -> Correction:
    """The best correction of rank at most ``total`` for a match, seen from inside its two ends."""
    closed = total >= match.gap.rank
    rank = match.gap.rank if closed else total
    error = match.error
    if not closed and match.unit_left is not None:
        error = torch.linalg.solve(match.unit_left, error)
    if not closed and match.unit_right is not None:
        error = torch.linalg.solve(match.unit_right, error, left=False)
    outputs, inputs = truncate(error, rank)
    if not closed and match.unit_left is not None:
        outputs = match.unit_left @ outputs
    if not closed and match.unit_right is not None:
        inputs = inputs @ match.unit_right
    left_out = float(torch.linalg.matrix_norm(match.error - outputs @ inputs, 2)) if error.numel() else 0.0
    return Correction(through(match.left, outputs), through(match.right.T, inputs.T).T, closed, left_out)


def through(end: Tensor, columns: Tensor) -> Tensor:
    """Least-norm ``X`` with ``end @ X = columns``."""
    rows = end.shape[0]
    if torch.equal(end, torch.eye(rows, end.shape[1], dtype=end.dtype, device=end.device)):
        return torch.nn.functional.pad(columns, (0, 0, 0, end.shape[1] - rows))
    return torch.linalg.pinv(end) @ columns if rows != end.shape[1] else _solve(end, columns)


def _solve(end: Tensor, columns: Tensor) -> Tensor:
    solution, failed = torch.linalg.solve_ex(end, columns)
    return torch.linalg.pinv(end) @ columns if failed else solution
