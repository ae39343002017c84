"""Bounds on the expected error of a ReLU network adapted with too small a rank."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ShapeError
from ..shapes import Float
from .linear import least_error
from .partition import uniform_partition

__all__ = ["sharp_bound", "theorem5_bound", "theorem5_bound_quoted"]


def theorem5_bound(
    frozen: Sequence[Float[Tensor, "width width"]],
    target: Sequence[Float[Tensor, "width width"]],
    target_biases: Sequence[Float[Tensor, " width"]],
    rank: int,
    moment: Float[Tensor, "width width"],
) -> float:
    """``E ||f - fbar|| <= beta sum_i max_k (||Wbar_k||_F + E_k)^{Lbar-i} E_i``.

    ``E_i = sigma_{RM+1}(Wbar_i - prod_{l in P_i} W_l)`` and, over ``0 <= i < Lbar``,
    ``beta = max_i (sqrt(tr Sigma) prod_{j<=i} ||Wbar_j||_F + sum_{j<=i} prod_{j<k<=i} ||Wbar_k||_F ||bbar_j||)``.

    Args:
        frozen: ``W_1, ..., W_L``, (out, in) each, non-singular.
        target: ``Wbar_1, ..., Wbar_Lbar``.
        target_biases: ``bbar_1, ..., bbar_Lbar``, (width,) each.
        rank: ``R``, of every adapter.
        moment: ``Sigma = E x x^T``, second moments about 0.

    Returns:
        A bound on the mean Euclidean output error of the network whose group ``i`` computes
        ``ReLU((P_i + LR_{RM}(Wbar_i - P_i)) z + bbar_i)``.

    Raises:
        ShapeError: more target layers than frozen ones, or matrices and biases that do not fit.
        RankError: a negative rank.

    Source: Zeng & Lee 2024, Theorem 5, with two corrections: the trace of Sigma for its Frobenius norm, and a
    product over ``k`` that ends at ``i``; ``theorem5_bound_quoted`` is false without them. Cost O(L D^3).

    >>> theorem5_bound([torch.eye(2)], [3 * torch.eye(2)], [torch.zeros(2)], 1, 2 * torch.eye(2))
    4.0
    """
    size = float(moment.detach().double().trace()) ** 0.5
    return _theorem5(frozen, target, target_biases, rank, size, shift=0)


def theorem5_bound_quoted(
    frozen: Sequence[Float[Tensor, "width width"]],
    target: Sequence[Float[Tensor, "width width"]],
    target_biases: Sequence[Float[Tensor, " width"]],
    rank: int,
    moment: Float[Tensor, "width width"],
    *,
    frobenius_moment: bool = True,
    short_product: bool = True,
) -> float:
    """``theorem5_bound`` as it is usually quoted. **Not a bound**: kept for its counter-examples.

    Args:
        frozen: ``W_1, ..., W_L``, (out, in) each.
        target: ``Wbar_1, ..., Wbar_Lbar``.
        target_biases: ``bbar_1, ..., bbar_Lbar``, (width,) each.
        rank: ``R``, of every adapter.
        moment: ``Sigma = E x x^T``.
        frobenius_moment: ``sqrt(||Sigma||_F)`` for ``sqrt(tr Sigma)``. False for D = 64, L = 2, R = 1, orthogonal
            ``W_l``, ``Wbar`` 0.001 times an orthogonal matrix, standard normal inputs: error 5.5, value 2.8.
        short_product: the product over ``k`` in ``beta`` ends at ``i - 1``. False for three layers of width 2:
            ``Wbar = e2 e2^T, 10 e2 e2^T, 0``, ``bbar_1 = x = e2``, frozen the same but for the last, diag(2, 1),
            and R = 1: error 20, value 11.

    Raises:
        ShapeError: more target layers than frozen ones, or matrices and biases that do not fit.
        RankError: a negative rank.

    Source: Zeng & Lee 2024, Theorem 5. Cost O(L D^3).

    >>> theorem5_bound_quoted([torch.eye(4)], [3 * torch.eye(4)], [torch.zeros(4)], 1, 2 * torch.eye(4))
    4.0
    """
    sigma = moment.detach().double()
    size = float(torch.linalg.matrix_norm(sigma) if frobenius_moment else sigma.trace()) ** 0.5
    return _theorem5(frozen, target, target_biases, rank, size, shift=int(short_product))


def sharp_bound(
    frozen: Sequence[Float[Tensor, "width width"]],
    target: Sequence[Float[Tensor, "width width"]],
    target_biases: Sequence[Float[Tensor, " width"]],
    rank: int,
    moment: Float[Tensor, "width width"],
) -> float:
    """``E ||f - fbar|| <= sum_i prod_{k>i} (||Wbar_k||_2 + E_k) E_i m_{i-1}``, never above ``theorem5_bound``.

    ``m_0 = sqrt(tr Sigma)`` and ``m_i = ||Wbar_i||_2 m_{i-1} + ||bbar_i||`` bounds the target's mean activation;
    ``E_i = sigma_{R|P_i|+1}(Wbar_i - prod_{l in P_i} W_l)``.

    Args:
        frozen: ``W_1, ..., W_L``, (out, in) each, non-singular.
        target: ``Wbar_1, ..., Wbar_Lbar``.
        target_biases: ``bbar_1, ..., bbar_Lbar``, (width,) each.
        rank: ``R``, of every adapter.
        moment: ``Sigma = E x x^T``, second moments about 0.

    Returns:
        A bound on the mean Euclidean output error.

    Raises:
        ShapeError: more target layers than frozen ones, or matrices and biases that do not fit.
        RankError: a negative rank.

    Source: Zeng & Lee 2024, proof of Theorem 5, with spectral norms, kept layer by layer. Cost O(L D^3).

    >>> sharp_bound([torch.eye(2)] * 2, [3 * torch.eye(2)] * 2, [torch.zeros(2)] * 2, 1, 2 * torch.eye(2))
    32.0
    """
    partition = uniform_partition(len(frozen), len(target))
    errors = _group_errors(frozen, target, partition, [rank * len(group) for group in partition])
    level, bound = float(moment.detach().double().trace()) ** 0.5, 0.0
    for weight, offset, error in zip(target, _norms(target_biases, target), errors, strict=True):
        norm = float(torch.linalg.matrix_norm(weight.detach().double(), 2))
        bound = (norm + error) * bound + error * level
        level = norm * level + offset
    return bound


def _theorem5(
    frozen: Sequence[Tensor], target: Sequence[Tensor], biases: Sequence[Tensor], rank: int, size: float, shift: int
) -> float:
    # size bounds E ||x||; the product over k in beta ends at i - shift
    partition = uniform_partition(len(frozen), len(target))
    errors = _group_errors(frozen, target, partition, [rank * len(partition[0])] * len(target))
    norms = [float(torch.linalg.matrix_norm(weight.detach().double())) for weight in target]
    offsets = _norms(biases, target)
    levels = [
        size * math.prod(norms[:i]) + sum(math.prod(norms[j : i - shift]) * offsets[j - 1] for j in range(1, i + 1))
        for i in range(len(target))
    ]
    growth = max(norm + error for norm, error in zip(norms, errors, strict=True))
    return max(levels) * sum(growth ** (len(target) - 1 - i) * error for i, error in enumerate(errors))


def _group_errors(
    frozen: Sequence[Tensor], target: Sequence[Tensor], partition: Sequence[Sequence[int]], totals: Sequence[int]
) -> list[float]:
    return [
        least_error([frozen[layer] for layer in group], wanted, [total] + [0] * (len(group) - 1))
        for group, wanted, total in zip(partition, target, totals, strict=True)
    ]


def _norms(biases: Sequence[Tensor], target: Sequence[Tensor]) -> list[float]:
    if [tuple(bias.shape) for bias in biases] != [(weight.shape[0],) for weight in target]:
        shapes = [tuple(bias.shape) for bias in biases]
        raise ShapeError(f"one bias for each of {len(target)} target layers, as long as its output; got {shapes}")
    return [float(torch.linalg.vector_norm(bias.detach().double())) for bias in biases]
