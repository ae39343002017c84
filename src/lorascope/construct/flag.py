"""Exact adapters from a flag: which input directions each layer corrects."""

import torch
from torch import Tensor

from ..linalg import prefixes, suffixes
from ..shapes import Float

__all__ = ["adapted_from_flag", "two_sided_flag"]


def adapted_from_flag(
    weights: Float[Tensor, "depth width width"],
    goal: Float[Tensor, "width width"],
    basis: Float[Tensor, "width width"],
    parts: tuple[int, ...],
) -> Float[Tensor, "depth width width"]:
    """Adapted factors that turn ``weights`` into ``goal``, layer ``l`` correcting the ``l``-th part of ``basis``.

    Inputs in part ``j`` meet frozen layers before layer ``j`` and after it, so every adapted prefix is known on the
    basis: ``P_l U_j = (W_L...W_{l+1})^{-1} goal U_j`` for ``j <= l`` and ``W_l...W_1 U_j`` for ``j > l``. Then
    ``P_l P_{l-1}^{-1}`` differs from ``W_l`` by rank ``parts[l-1]``. Needs non-singular weights and prefixes.

    Args:
        weights: frozen factors.
        goal: the product wanted.
        basis: columns span the whole space, ordered by part.
        parts: sizes, summing to the width.
    """
    frozen, rest = prefixes(weights), suffixes(weights)
    wanted = goal @ basis
    previous, adapted, done = basis, [], 0
    for layer, part in enumerate(parts):
        done += part
        corrected = torch.linalg.solve(rest[layer + 1], wanted[:, :done])
        reached = torch.cat([corrected, frozen[layer + 1] @ basis[:, done:]], dim=1)
        adapted.append(torch.linalg.solve(previous, reached, left=False))
        previous = reached
    return torch.stack(adapted)


def two_sided_flag(
    weights: Float[Tensor, "depth width width"], goal: Float[Tensor, "width width"], parts: tuple[int, ...]
) -> Float[Tensor, "width width"]:
    """A flag whose parts come in least damaged and go out most easily.

    Part ``j`` is the best-aligned piece of ``S_j``, the directions that frozen layers before ``j`` amplify most, and
    ``T_j``, the pre-images under ``goal`` of those that frozen layers after ``j`` can still produce.
    """
    width = goal.shape[-1]
    frozen, rest = prefixes(weights), suffixes(weights)
    basis, done = [], 0
    for layer, part in enumerate(parts):
        free = width - done
        done += part
        outputs = torch.linalg.svd(rest[layer + 1]).U[:, :done]
        back = torch.linalg.qr(torch.linalg.solve(goal, outputs)).Q
        inputs = torch.linalg.svd(frozen[layer]).Vh[:free].T
        u, _, v = torch.linalg.svd(back.T @ inputs, full_matrices=False)
        basis.append(torch.linalg.qr(back @ u[:, :part] + inputs @ v[:part].T).Q)
    return torch.cat(basis, dim=1)
