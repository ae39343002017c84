"""Adaptation in closed form that stays exact in floating point."""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic, perf_counter

import torch
from torch import Tensor

from ..adaptation import Adaptation, Certificate, Domain, Sampler, check_ranks, check_seconds, draw_samples
from ..linalg import threads_for
from ..models import FNN, Adapter, TransformerNetwork
from ..theory import Match, Model, NarrowMatch, check_pair, find_partition
from .chain import Solution, solve_match
from .fnn import Solver, adapt_fnn
from .gauge import solve_narrow
from .inputs import check_partition
from .transformer import adapt_transformer
from .variant import adapt_variant

__all__ = ["adapt_with", "stable"]


def stable(
    frozen: Model,
    target: Model,
    rank: int | None = None,
    *,
    ranks: Mapping[str, int] | None = None,
    partition: Sequence[Sequence[int]] | None = None,
    domain: Domain | None = None,
    samples: Tensor | None = None,
    sampler: Sampler | None = None,
    seconds: float = 30,
    generator: torch.Generator | None = None,
) -> Adaptation[Model]:
    """Adapters of rank at most ``rank`` such that ``f = target`` on the domain, exact where the ranks allow.

    ``prod_{l in P_i} (W_l + D_l) = Wbar_i`` for each group, with hidden ReLUs provably active. Below the threshold the
    product is the nearest one in every unitarily invariant norm, ``prod W_l + LR_{sum R}(Wbar_i - prod W_l)``.

    Args:
        frozen: FNN or TransformerNetwork of any form, float32 or float64; left as it is.
        target: of the same kind and form, no deeper, no wider.
        rank: cap of every adapter.
        ranks: instead of ``rank``: parameter name -> cap; names left out get none.
        partition: groups of consecutive frozen layers, counted from 0, one for each target layer; default the best.
        domain: of the inputs (of every token); default ``Ball(6 sqrt(width))``.
        samples: (number, inputs), for the certificate's expected error; default 4096 draws of N(0, I). Transformers:
            (number, tokens, inputs); default 512 draws of 10 tokens.
        sampler: instead of ``samples``: number -> samples.
        seconds: once they have passed, adapters are no longer made smaller; exactness is not given up.
        generator: of the default samples.

    Returns:
        The adaptation; ``certificate.exact`` says whether it is exact, ``certificate.conditions`` why not.

    Raises:
        ShapeError, RankError, SpecError: input that says nothing usable, before any work is done.

    Source: Zeng & Lee 2024, Lemmas 1 and 2, Theorems 3, 6 and 7. Departs in how the products are solved (Schur form
    and orthogonal path in place of the split of the SVD), in needing only non-singular frozen weights, in biases
    that hold on a whole domain, and in treating transformers with skips, normalisations, biases, narrow heads or wide
    hidden layers. Cost O(width^3) for two factors a group; beyond, some thousand products of that size.

    >>> frozen, target = FNN(4, 2), FNN(4, 1)
    >>> stable(frozen, target, rank=2).certificate.exact
    True
    """
    check_seconds(seconds)
    deadline = monotonic() + seconds

    def solve(match: Match, given: tuple[int, ...]) -> Solution:
        return solve_match(match, given, deadline)

    def narrow(match: NarrowMatch, given: tuple[int, ...]) -> Solution:
        return solve_narrow(match, given, deadline)

    return adapt_with(solve, frozen, target, rank, ranks, partition, domain, samples, sampler, generator, narrow)


def adapt_with(
    solve: Solver,
    frozen: Model,
    target: Model,
    rank: int | None,
    ranks: Mapping[str, int] | None,
    partition: Sequence[Sequence[int]] | None,
    domain: Domain | None,
    samples: Tensor | None,
    sampler: Sampler | None,
    generator: torch.Generator | None,
    narrow: Callable[[NarrowMatch, tuple[int, ...]], Solution] = solve_narrow,
) -> Adaptation[Model]:
    """The common course of the closed-form constructions: check, solve every product, set biases, certify."""
    started = perf_counter()
    check_pair(frozen, target)
    allowed = check_ranks(frozen, rank, ranks)
    groups = check_partition(frozen, target, partition)
    model: Model
    adapters: dict[str, Adapter]
    biases: dict[str, Tensor]
    certificate: Certificate
    if isinstance(frozen, FNN) and isinstance(target, FNN):
        like, inputs = frozen.linears[0].weight, target.linears[0].weight.shape[1]
        drawn = draw_samples((inputs,), samples, sampler, generator, like)
        with threads_for(frozen.width):
            groups = find_partition(frozen, target, allowed) if groups is None else groups
            found = adapt_fnn(frozen, target, allowed, groups, domain, drawn, solve)
    else:
        assert isinstance(frozen, TransformerNetwork) and isinstance(target, TransformerNetwork)
        drawn = draw_samples((-1, target.embed_dim), samples, sampler, generator, frozen.output.weight)
        with threads_for(frozen.embed_dim):
            if frozen.is_paper_form and target.is_paper_form:
                found = adapt_transformer(frozen, target, allowed, domain, drawn, solve)
            else:
                found = adapt_variant(frozen, target, allowed, domain, drawn, solve, narrow)
    model, adapters, biases, certificate, methods = found
    method = ", ".join(dict.fromkeys(methods))
    return Adaptation(model, adapters, biases, certificate, method, perf_counter() - started)
