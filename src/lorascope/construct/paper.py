"""The paper's own construction, to compare with."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..adaptation import Adaptation, Domain, Sampler
from ..errors import ShapeError
from ..linalg import product
from ..models import FNN, TransformerNetwork
from ..theory import Match, Model, uniform_partition
from .chain import Solution
from .correction import correction_of
from .split import split
from .stable import adapt_with

__all__ = ["paper"]


def paper(
    frozen: Model,
    target: Model,
    rank: int | None = None,
    *,
    ranks: Mapping[str, int] | None = None,
    partition: Sequence[Sequence[int]] | None = None,
    domain: Domain | None = None,
    samples: Tensor | None = None,
    sampler: Sampler | None = None,
    generator: torch.Generator | None = None,
) -> Adaptation[Model]:
    """As :func:`stable`, with the paper's adapters: block l of the singular triplets of the error goes to layer l.

    ``D_l = (W_L...W_{l+1})^{-1} E V_l V_l^T (adapted W_{l-1}...W_1)^{-1}``, on the paper's uniform partition. Solves
    stand in for its inverses and biases hold on the whole domain; the digits it loses in deep products are its own.

    Raises:
        AssumptionError: a frozen weight or a partial sum ``prod W + LR_r(E)`` is singular to working precision.
        ShapeError: a transformer of another form than the paper's.
        ShapeError, RankError, SpecError: as :func:`stable`.

    Source: Zeng & Lee 2024, proofs of Lemma 1, Theorem 3 and Theorem 7. Cost O(depth width^3).
    """

    def solve(match: Match, given: tuple[int, ...]) -> Solution:
        correction = correction_of(match, sum(given))
        total = correction.outputs @ correction.inputs
        factors = split(match.weights, total, given, correction.inputs.shape[0], theorem)
        goal = product(list(match.weights)) + total
        residual = float((product(factors.adapted(match.weights)) - goal).norm() / goal.norm().clamp(min=1e-300))
        short = f"rank too small: a spectral error of at least {correction.left_out:.3g} remains"
        notes = () if correction.closed else (short,)
        if not math.isfinite(residual):
            notes = (*notes, "the adapters overflow")
        return Solution(factors, "paper", residual, notes)

    for role, model in (("frozen", frozen), ("target", target)):
        if isinstance(model, TransformerNetwork) and not model.is_paper_form:
            raise ShapeError(
                f"construct.paper needs the paper's form of transformer (square matrices; no skips, normalisations or "
                f"attention biases), got another one as {role}; construct.stable treats them all"
            )
    theorem = "Theorem 3" if isinstance(frozen, FNN) else "Theorem 7"
    relu = isinstance(frozen, FNN) and isinstance(target, FNN) and frozen.activation == "relu"
    if partition is None and relu and target.depth <= frozen.depth:
        partition = uniform_partition(frozen.depth, target.depth)
    return adapt_with(solve, frozen, target, rank, ranks, partition, domain, samples, sampler, generator)
