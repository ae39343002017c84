"""Fully connected ReLU networks: the paper's rank thresholds and what they assume."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ShapeError
from ..linalg import product, svd
from ..shapes import Float
from .linear import difference, difference_rank, least_error
from .partition import uniform_partition

__all__ = ["assumption1", "corollary4_rank", "lemma2_bound", "theorem3_rank"]


def lemma2_bound(
    frozen: Sequence[Float[Tensor, "width width"]],
    target: Float[Tensor, "width width"],
    rank: int,
    moment: Float[Tensor, "width width"],
) -> float:
    """``sqrt(E ||f - fbar||^2) <= sigma_{RL+1}(E) sqrt(tr Sigma)`` for a target of one layer.

    The pointwise statement behind it is ``||f(x) - fbar(x)|| <= sigma_{RL+1}(E) ||x||``.

    Args:
        frozen: ``W_1, ..., W_L``, (out, in) each, non-singular.
        target: ``Wbar_1``.
        rank: ``R``, of every adapter.
        moment: ``Sigma = E x x^T``, second moments about 0.

    Returns:
        A bound on the root mean square of the Euclidean output error (hence on its mean).

    Raises:
        ShapeError: matrices that do not chain.
        RankError: a negative rank.

    Source: Zeng & Lee 2024, Lemma 2; the trace of Sigma stands here where the usual quotation has its
    Frobenius norm, with which the statement is false. Cost O(L D^3).

    >>> lemma2_bound([torch.eye(2)], 3 * torch.eye(2), 1, 2 * torch.eye(2))
    4.0
    """
    return least_error(frozen, target, rank) * float(moment.detach().double().trace()) ** 0.5


def theorem3_rank(
    frozen: Sequence[Float[Tensor, "width width"]], target: Sequence[Float[Tensor, "width width"]]
) -> int:
    """``ceil(max_i rank(Wbar_i - prod_{l in P_i} W_l) / M)`` on the uniform partition, ``M = floor(L / Lbar)``.

    Args:
        frozen: ``W_1, ..., W_L``, (out, in) each.
        target: ``Wbar_1, ..., Wbar_Lbar``, with ``Lbar <= L``.

    Returns:
        A rank with which adapters and biases make the networks equal on any bounded set.

    Raises:
        ShapeError: more target layers than frozen ones, or matrices that do not fit.

    Source: Zeng & Lee 2024, Theorem 3, under its Assumption 1. Cost O(L D^3).

    >>> theorem3_rank([torch.eye(3)] * 4, [2 * torch.eye(3), torch.eye(3)])
    2
    """
    partition = uniform_partition(len(frozen), len(target))
    gaps = [
        difference_rank([frozen[layer] for layer in group], [wanted]).rank
        for group, wanted in zip(partition, target, strict=True)
    ]
    return -(-max(gaps) // len(partition[0]))


def corollary4_rank(width: int, depth: int, target_depth: int) -> int:
    """``ceil(D / M)``, ``M = floor(L / Lbar)``: enough for generic weights, whatever they are.

    Args:
        width: ``D``.
        depth: ``L``, frozen layers.
        target_depth: ``Lbar``, target layers.

    Raises:
        ShapeError: a width below 1, or more target layers than frozen ones.

    Source: Zeng & Lee 2024, Corollary 4. Cost O(L).

    >>> corollary4_rank(16, 5, 2)
    8
    """
    if width < 1:
        raise ShapeError(f"a network's width is at least 1, got {width}")
    return -(-width // len(uniform_partition(depth, target_depth)[0]))


def assumption1(
    frozen: Sequence[Float[Tensor, "width width"]], target: Sequence[Float[Tensor, "width width"]], rank: int
) -> float:
    """``min sigma_min / sigma_max`` over every ``W_l`` and every ``P_i + LR_r(Wbar_i - P_i)``, ``r <= R (M - 1)``.

    ``P_i`` is the product of the frozen layers in group ``i`` of the uniform partition.

    Args:
        frozen: ``W_1, ..., W_L``, (out, in) each.
        target: ``Wbar_1, ..., Wbar_Lbar``.
        rank: ``R``.

    Returns:
        How far all these matrices are from singular, between 0 and 1; 0 when the assumption fails. Only the
        paper's own construction needs more of it than the ``W_l``.

    Raises:
        ShapeError: more target layers than frozen ones, or matrices that do not fit.

    Source: Zeng & Lee 2024, Assumption 1 (for one target layer, the assumption of Lemmas 1 and 2).
    Cost O((L + Lbar min(R M, D)) D^3).

    >>> assumption1([torch.eye(2), torch.eye(2)], [torch.diag(torch.tensor([1.0, 0.0]))], 1)
    0.0
    """
    partition = uniform_partition(len(frozen), len(target))
    matrices = [weight.detach().double() for weight in frozen]
    for group, wanted in zip(partition, target, strict=True):
        layers = [frozen[layer].detach().double() for layer in group]
        left, values, right = svd(difference(layers, [wanted]))
        most = min(rank * (len(partition[0]) - 1), len(values))
        matrices += [product(layers) + (left[:, :k] * values[:k]) @ right[:k] for k in range(most + 1)]
    return min(_relative(matrix) for matrix in matrices)


def _relative(matrix: Tensor) -> float:
    values = torch.linalg.svdvals(matrix)
    return float(values[-1] / values[0]) if values[0] > 0 else 0.0
