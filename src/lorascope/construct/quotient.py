"""A correction of rank r in a product of width D, reduced to a full problem of width r."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..linalg import prefixes, product, suffixes
from ..shapes import Float
from .factors import Factors

__all__ = ["solve_in_quotient"]

Solver = Callable[[Float[Tensor, "depth r r"], Float[Tensor, "r r"]], Factors]


def solve_in_quotient(
    weights: Float[Tensor, "depth width width"],
    outputs: Float[Tensor, "width r"],
    inputs: Float[Tensor, "r width"],
    solve: Solver,
) -> Factors:
    """Adapters that leave the null space of ``inputs`` and its frozen images alone.

    Let ``N_0 = null(inputs)`` and ``N_l = W_l N_{l-1}``. On the quotients ``R^D / N_l`` the frozen layers act as a
    chain of r x r matrices, which ``solve`` turns into the goal's. Lifted back, only a block into ``N_l`` is left to
    fix: it is linear in one more coefficient for each layer, and so solved exactly.

    Args:
        weights: frozen factors, non-singular.
        outputs, inputs: the product must become ``prod W + outputs @ inputs``; ``inputs`` of full row rank.
        solve: turns an r x r chain into an r x r goal.

    Cost: O(depth width^3) and the inner solver's.
    """
    depth, width, rank = len(weights), weights.shape[-1], inputs.shape[0]
    if rank == width:
        return solve(weights, product(list(weights)) + outputs @ inputs)
    basis = torch.linalg.qr(inputs.T, mode="complete").Q
    kept, moved = [basis[:, rank:]], [basis[:, :rank]]
    for weight in weights:
        basis = torch.linalg.qr(weight @ kept[-1], mode="complete").Q
        kept.append(basis[:, : width - rank])
        moved.append(basis[:, width - rank :])
    stay, cross, small = [], [], []
    for layer, weight in enumerate(weights):
        stay.append(kept[layer + 1].T @ weight @ kept[layer])
        cross.append(kept[layer + 1].T @ weight @ moved[layer])
        small.append(moved[layer + 1].T @ weight @ moved[layer])
    goal = (product(list(weights)) + outputs @ inputs) @ moved[0]
    inner = solve(torch.stack(small), moved[-1].T @ goal)

    before = prefixes(torch.stack(inner.adapted(torch.stack(small))))
    after = suffixes(torch.stack(stay))
    seen = [inner.right[layer] @ before[layer] for layer in range(depth)]  # rank_l x r
    missing = kept[-1].T @ goal - sum(after[layer + 1] @ cross[layer] @ before[layer] for layer in range(depth))
    share = torch.linalg.lstsq(torch.cat(seen).T, missing.T, driver="gelsd").solution.T
    left, right = [], []
    for layer, part in enumerate(share.split([len(rows) for rows in seen], dim=1)):
        lift = torch.linalg.solve(after[layer + 1], part)
        left.append(kept[layer + 1] @ lift + moved[layer + 1] @ inner.left[layer])
        right.append(inner.right[layer] @ moved[layer].T)
    return Factors(tuple(left), tuple(right))
