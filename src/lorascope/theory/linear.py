"""Linear models: how near a chain of rank-limited corrections can bring a product of frozen matrices to a target."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import RankError, ShapeError
from ..linalg import NumericalRank, norm_product, numerical_rank, product, singular_value
from ..shapes import Float

__all__ = ["difference", "difference_rank", "exact_rank", "least_error", "rank_obstruction"]


def difference(
    frozen: Sequence[Float[Tensor, "_ _"]], target: Sequence[Float[Tensor, "_ _"]]
) -> Float[Tensor, "out inp"]:
    """``E = prod_l Wbar_l - prod_l W_l``, the error matrix, in float64.

    Args:
        frozen: ``W_1, ..., W_L``, (out, in) each, the first to act first.
        target: ``Wbar_1, ..., Wbar_K`` likewise; often a single matrix.

    Raises:
        ShapeError: an empty chain, factors that do not chain, or products of two shapes.

    Source: Zeng & Lee 2024, Section 2. Cost O((L + K) D^3).

    >>> difference([torch.eye(2), 2 * torch.eye(2)], [3 * torch.eye(2)]).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    for name, chain in (("frozen", frozen), ("target", target)):
        shapes = [tuple(weight.shape) for weight in chain]
        fits = all(first[0] == second[1] for first, second in itertools.pairwise(shapes))
        if not shapes or not fits:
            raise ShapeError(f"{name} must be matrices (out, in) that chain, the first to act first; got {shapes}")
    wanted, given = (product([weight.detach().double() for weight in chain]) for chain in (target, frozen))
    if wanted.shape != given.shape:
        raise ShapeError(f"the target maps as {tuple(wanted.shape)}, the frozen product as {tuple(given.shape)}")
    return wanted - given


def difference_rank(frozen: Sequence[Float[Tensor, "_ _"]], target: Sequence[Float[Tensor, "_ _"]]) -> NumericalRank:
    """``R_E = rank(prod_l Wbar_l - prod_l W_l)``, counted above the rounding of both products.

    The rounding level is that of the coarsest dtype among the factors.

    Args:
        frozen: ``W_1, ..., W_L``, (out, in) each, the first to act first.
        target: ``Wbar_1, ..., Wbar_K`` likewise.

    Raises:
        ShapeError: as ``difference``.

    Source: Zeng & Lee 2024, Section 2. Cost O((L + K) D^3).

    >>> difference_rank([torch.eye(3)], [torch.eye(3) + torch.ones(3, 3)]).rank
    1
    """
    error = difference(frozen, target)
    chains = [[weight.detach() for weight in chain] for chain in (frozen, target)]
    dtype = max((weight.dtype for chain in chains for weight in chain), key=lambda dtype: torch.finfo(dtype).eps)
    scale = sum(norm_product(chain) for chain in chains)
    return numerical_rank(error, scale=scale, terms=max(map(len, chains)), dtype=dtype)


def least_error(
    frozen: Sequence[Float[Tensor, "_ _"]], target: Float[Tensor, "out inp"], ranks: Sequence[int] | int
) -> float:
    """``min ||prod_l (W_l + dW_l) - Wbar||_2 = sigma_{R_1 + ... + R_L + 1}(E)`` over ``rank dW_l <= R_l``.

    Args:
        frozen: ``W_1, ..., W_L``, (out, in) each, the first to act first.
        target: ``Wbar``, of the product's shape.
        ranks: ``R_l`` layer by layer, or one ``R`` for all.

    Returns:
        The least spectral norm of the error. For singular frozen weights only a lower bound,
        beside ``rank_obstruction``; a single layer never needs non-singularity.

    Raises:
        ShapeError: as ``difference``.
        RankError: a rank below 0, or not one a layer.

    Source: Zeng & Lee 2024, Lemma 1, with ranks that may differ and without its condition on the
    partial sums ``prod W + LR_r(E)``: non-singular ``W_l`` are enough. Cost O(L D^3).

    >>> least_error([torch.eye(3), torch.eye(3)], torch.diag(torch.tensor([2.0, 4.0, 6.0])), 1)
    1.0
    """
    return singular_value(difference(frozen, [target]), sum(_per_layer(ranks, len(frozen))) + 1)


def exact_rank(frozen: Sequence[Float[Tensor, "_ _"]], target: Float[Tensor, "out inp"]) -> int:
    """``ceil(R_E / L)``: the least rank of all adapters with which the product can equal the target.

    Args:
        frozen: ``W_1, ..., W_L``, (out, in) each, non-singular unless ``L = 1``.
        target: ``Wbar``, of the product's shape.

    Raises:
        ShapeError: as ``difference``.

    Source: Zeng & Lee 2024, Lemma 1. Cost O(L D^3).

    >>> exact_rank([torch.eye(3), torch.eye(3)], 2 * torch.eye(3))
    2
    """
    return -(-difference_rank(frozen, [target]).rank // len(frozen))


def rank_obstruction(
    frozen: Sequence[Float[Tensor, "_ _"]], target: Float[Tensor, "out inp"], ranks: Sequence[int] | int
) -> float:
    """``max_{a <= b} sigma_{k+1}(Wbar)``, ``k = rank(W_b ... W_a) + R_a + ... + R_b``: an error no adapters undercut.

    Adapters raise the rank of a part of the chain by at most their own ranks, and no part may have a
    smaller rank than the whole. Non-singular parts obstruct nothing.

    Args:
        frozen: ``W_1, ..., W_L``, (out, in) each, the first to act first; singular is the interesting case.
        target: ``Wbar``, of the product's shape.
        ranks: ``R_l`` layer by layer, or one ``R`` for all.

    Returns:
        A lower bound on the error's spectral norm; 0 where no part binds.

    Raises:
        ShapeError: as ``difference``.
        RankError: a rank below 0, or not one a layer.

    Source: beyond Zeng & Lee 2024, whose Lemma 1 assumes non-singular weights. Cost O(L^2 D^3).

    >>> frozen = [torch.zeros(2, 2)] * 2
    >>> least_error(frozen, torch.eye(2), 1), rank_obstruction(frozen, torch.eye(2), 1)
    (0.0, 1.0)
    """
    difference(frozen, [target])  # shapes
    budget = _per_layer(ranks, len(frozen))
    weights = [weight.detach() for weight in frozen]
    own = [numerical_rank(weight).rank for weight in weights]
    reach = min(target.shape)
    for start in range(len(weights)):
        part, least = weights[start].double(), own[start]
        for stop in range(start + 1, len(weights) + 1):
            if stop > start + 1:
                part = weights[stop - 1].double() @ part
                least += own[stop - 1] - weights[stop - 1].shape[1]  # Sylvester's inequality
            chain = weights[start:stop]
            counted = numerical_rank(part, scale=norm_product(chain), terms=len(chain), dtype=chain[0].dtype).rank
            reach = min(reach, max(counted, least) + sum(budget[start:stop]))
    return singular_value(target.detach().double(), reach + 1)


def _per_layer(ranks: Sequence[int] | int, depth: int) -> list[int]:
    result = [ranks] * depth if isinstance(ranks, int) else list(ranks)
    if len(result) != depth or any(not isinstance(rank, int) or rank < 0 for rank in result):
        raise RankError(f"ranks must be one non-negative integer for each of {depth} layers, got {ranks}")
    return result
