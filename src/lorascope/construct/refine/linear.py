"""Below the threshold, without ReLUs: the weighted truncation is already the best there is."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ...adaptation import Domain
from ...linalg import product, truncate_weighted
from ...models import FNN
from ...theory import Match, fnn_matches, padded_biases
from ..chain import Solution, solve_match
from ..fnn import Realised, realise_fnn
from .source import InputSource

__all__ = ["refine_linear"]


def refine_linear(frozen: FNN, target: FNN, ranks: Mapping[str, int], source: InputSource, domain: Domain) -> Realised:
    """Adapters and biases of the least ``E |f - fbar|^2`` for linear networks.

    ``prod (W_l + D_l) = P + LR_r(E C) C^+`` with ``C C^T = E x x^T`` (about the mean, where biases are free). Without
    biases the mean has to stand in for the target's: then ``E + bbar E[x]^T (C C^T)^+`` takes the place of E.

    Args:
        frozen, target: identity networks.
        ranks: parameter name -> cap.
        source: of inputs.
        domain: of the certificate.

    Source: Eckart & Young 1936 in the metric of the inputs; Zeng & Lee 2024, Lemma 1, for the spectral norm.
    Cost O(depth width^3).
    """
    everything = (tuple(range(frozen.depth)),)
    match, shift = fnn_matches(frozen, target, everything)[0], padded_biases(frozen, target)[0]
    mean, moment = _moments(source, frozen.has_bias)
    error = match.error
    if not frozen.has_bias:
        error = error + torch.outer(shift, torch.linalg.pinv(moment, hermitian=True) @ mean)
    left, right = truncate_weighted(error, moment, sum(ranks[name] for name in match.names))
    missing = match.error - left @ right
    aim = FNN.from_weights(
        [match.left @ product(list(match.weights)) @ match.right + left @ right],
        [shift + missing @ mean] if frozen.has_bias else [shift],
        "identity",
    )

    def solve(match: Match, given: tuple[int, ...]) -> Solution:
        return solve_match(match, given)

    found = realise_fnn(frozen, aim, ranks, everything, domain, solve)
    return replace(found, conditions=(*_scarcity(source, frozen.has_bias), *found.conditions))


def _moments(source: InputSource, centred: bool) -> tuple[Tensor, Tensor]:
    """The mean, and second moments (about it, where centred)."""
    rows = source.validation if source.given is None else source.given
    if source.standard:
        return rows.new_zeros(rows.shape[1]), torch.eye(rows.shape[1]).to(rows)
    mean = rows.mean(0)
    about = rows - mean if centred else rows
    return mean, about.T @ about / len(rows)


def _scarcity(source: InputSource, centred: bool) -> list[str]:
    if source.given is None:
        return []
    samples, width = source.given.shape
    if samples >= width + centred:
        return []
    return [f"few samples: {samples} for {width} inputs; the correction acts on the directions they span alone"]
