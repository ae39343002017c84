"""Adapters in closed form for any goal: one Schur decomposition, solves with frozen matrices only."""

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from ..shapes import Float
from .factors import Factors

__all__ = ["schur"]

SHEARS = (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0)


def schur(
    weights: Float[Tensor, "depth width width"],
    outputs: Float[Tensor, "width r"],
    inputs: Float[Tensor, "r width"],
    parts: tuple[int, ...],
) -> Factors:
    """Adapters with ``prod_l (W_l + D_l) = prod_l W_l + outputs @ inputs`` and ``rank D_l <= parts[l]``.

    With ``X = (prod W)^{-1} outputs`` and the real Schur form ``inputs X = Q T Q^T``, the columns of ``X Q`` and
    ``inputs^T Q``, cut into consecutive blocks, satisfy ``Y_l^T X_m = 0`` for ``l > m``; so the blocks multiply to the
    whole without cross terms. No adapted matrix is ever inverted.

    Args:
        weights: frozen factors, non-singular, first one acting first.
        outputs, inputs: the correction.
        parts: columns for each factor, summing to r.

    Returns:
        The factors, balanced by column norms.

    Source: Zeng & Lee 2024, Lemma 1, without its condition on the partial sums. Cost O(depth width^2 r + r^3).
    """
    solved = outputs
    for weight in weights.flip(0):
        solved = torch.linalg.solve(weight, solved)
    core = (inputs @ solved).cpu().numpy()
    triangular, rotation = scipy.linalg.schur(core, output="real")[:2]
    basis = torch.from_numpy(np.ascontiguousarray(rotation)).to(outputs)
    out, solved, inp = outputs @ basis, solved @ basis, inputs.T @ basis
    _mend_cut_pairs(triangular, parts, out, solved, inp)
    left, right, start = [], [], 0
    for layer, part in enumerate(parts):
        block = slice(start, start + part)
        b = out[:, block]
        for weight in weights[layer + 1 :].flip(0):
            b = torch.linalg.solve(weight, b)
        a = inp[:, block]
        for weight in weights[:layer]:
            a = torch.linalg.solve(weight.T, a)
        balance = (a.norm(dim=0) / b.norm(dim=0).clamp(min=torch.finfo(b.dtype).tiny)).sqrt()
        balance = torch.where(balance > 0, balance, 1.0)
        left.append(b * balance)
        right.append((a / balance).T)
        start += part
    return Factors(tuple(left), tuple(right))


def _mend_cut_pairs(triangular: np.ndarray, parts: tuple[int, ...], out: Tensor, solved: Tensor, inp: Tensor) -> None:
    """Where a boundary between parts cuts a complex pair, change its basis so that the cross term vanishes (in place).

    A shear makes ``1 + y_p^T x_p`` nonzero, which a rotation may not; then ``y_q`` is freed of what ``y_p`` has seen.
    """
    for cut in sorted(set(np.cumsum(parts)[:-1])):  # a part of no columns repeats a boundary
        p, q = int(cut) - 1, int(cut)
        if p < 0 or q >= len(triangular) or triangular[q, p] == 0:
            continue
        a, b, c, d = triangular[p, p], triangular[p, q], triangular[q, p], triangular[q, q]

        def cross(s: float, a: float = a, b: float = b, c: float = c, d: float = d) -> float:
            first = 1 + a + s * b
            return abs((c + s * (d - a) - s * s * b) / first) if first != 0 else np.inf

        shear = min(SHEARS, key=cross)
        for columns in (out, solved):  # times [[1, 0], [s, 1]]
            columns[:, p] += shear * columns[:, q]
        inp[:, q] -= shear * inp[:, p]  # times its inverse transpose
        inp[:, q] -= (inp[:, q] @ solved[:, p]) / (1 + inp[:, p] @ solved[:, p]) * inp[:, p]
