"""Transformer adapters below the threshold: the products refined on inputs, then written as adapters."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice, product
from time import monotonic, perf_counter
from typing import Literal

import torch
from torch import Tensor

from ...adaptation import (
    EXACT,
    Adaptation,
    Ball,
    Certificate,
    Domain,
    bound_on_samples,
    bound_transformer,
    contains,
    largest_output,
    region_of,
)
from ...errors import RankError
from ...linalg import numerical_rank, threads_for
from ...models import Adapter, TransformerNetwork
from ...shapes import Float
from ...theory import coarser_dtype, transformer_matches
from ..chain import solve_match
from ..transformer import adapt_transformer
from .source import InputSource
from .transformer_plan import plan
from .transformer_products import Effective, effective_of
from .transformer_realise import realise
from .transformer_schedule import Candidate, refine
from .transformer_space import ProductSpace, product_space
from .transformer_starts import (
    align_hidden,
    corrections_of,
    moments_of,
    permute_heads,
    start_from_truncation,
    woken,
)

__all__ = ["refine_transformer"]

# Inputs to choose by, and to take moments from.
VALIDATION = 1000
MOMENTS = 1000
# Starts: what is permuted in the target before its products are truncated.
STARTS = 8
# Sequence length at which the target's largest output is taken, and sequences evaluated at once.
TOKENS = 8
CHUNK = 500
# Candidates written as adapters, best first, until one keeps its error.
REALISED = 3
# Relative difference between the errors of adapters and of the products they were made for, in single precision, within
# which no other candidate is looked at.
KEPT = 1e-3
# Inputs for the certificate's expected error.
CERTIFIED = 512


def refine_transformer(
    frozen: TransformerNetwork,
    target: TransformerNetwork,
    ranks: Mapping[str, int],
    source: InputSource,
    domain: Domain | None,
    *,
    profile: Literal["full", "fast"] = "full",
    deadline: float = math.inf,
    generator: torch.Generator,
    progress: Callable[[float, str], None] | None = None,
    start: Adaptation[TransformerNetwork] | None = None,
) -> Adaptation[TransformerNetwork]:
    """Adapters of rank at most ``ranks`` with a small mean squared output error over an input distribution.

    Minimises ``E |f(X) - target(X)|^2`` over the products that outputs depend on, each with a correction of the rank
    that its adapters have together; then writes the products as adapters.

    Args:
        frozen: D x D heads, no residual, no normalisation; left as it is.
        target: of the same depth; a target of fewer coordinates gets the closed form.
        ranks: weight name -> rank of its adapter.
        source: inputs, (tokens, width) each.
        domain: of every token, for the certificate; default ``Ball(6 sqrt(width))``.
        profile: "fast" takes about a third of the time.
        deadline: of :func:`time.monotonic`; once it has passed, the best so far is returned.
        generator: of all random numbers but the inputs.
        progress: called with the share of the work done and what is done.
        start: an adaptation to do no worse than on ``source.validation``, of ranks no larger.

    Returns:
        The best on ``source.validation`` of the refined adapters, the closed form, and ``start``.

    Source: Zeng & Lee 2024, Section 4; below the threshold they leave transformers open. Cost: a few thousand steps
    of Adam.
    """
    began = perf_counter()
    _check_start(start, ranks)
    domain = Ball(6 * frozen.embed_dim**0.5) if domain is None else domain
    seen = source.validation[:CERTIFIED]
    with threads_for(frozen.embed_dim):
        closed = _closed_form(frozen, target, ranks, domain, seen, deadline)
        found = [closed] if start is None else [closed, _adaptation(start, target, domain, seen, start.method)]
        if _refinable(frozen, target, closed) and monotonic() < deadline:
            best = _refined(frozen, target, ranks, source, start, profile, deadline, generator, progress)
            for model, adapters, biases, history in best:
                plain = Adaptation(model, adapters, biases, closed.certificate, history)
                found.append(_adaptation(plain, target, domain, seen, f"refined: {history}"))
        validation = source.validation[:VALIDATION]
        errors = [_error(one.model, target, validation) for one in found]
    chosen = found[min(range(len(found)), key=lambda index: errors[index])]
    return replace(chosen, seconds=perf_counter() - began)


def _refined(
    frozen: TransformerNetwork,
    target: TransformerNetwork,
    ranks: Mapping[str, int],
    source: InputSource,
    start: Adaptation[TransformerNetwork] | None,
    profile: Literal["full", "fast"],
    deadline: float,
    generator: torch.Generator,
    progress: Callable[[float, str], None] | None,
) -> list[tuple[TransformerNetwork, dict[str, Adapter], dict[str, Tensor], str]]:
    """The best corrections, written as adapters; several only where adapters did not keep the error."""
    space, goal = product_space(frozen, ranks), effective_of(target, frozen.num_heads)
    candidates = _starts(space, goal, source.training(MOMENTS), generator)
    if start is not None:
        known = corrections_of(space, effective_of(start.model), start.adapters)
        candidates.append(Candidate(woken(known, generator), goal, "start"))
    lower = [
        replace(
            one,
            corrections={name: value.float() for name, value in one.corrections.items()},
            target=one.target.to(torch.float32),
        )
        for one in candidates
    ]
    validation = source.validation[:VALIDATION]
    rounds = plan(space.depth, profile)
    small = space.to(torch.float32)
    pool = refine(small, lower, rounds, source.draw, validation.float(), deadline=deadline, progress=progress)
    found = []
    for one in pool[:REALISED]:
        model, adapters, biases = realise(frozen, space, one.corrections, ranks, deadline)
        found.append((model, adapters, biases, one.history))
        error = _error(model, target, validation)
        if abs(error - one.error) <= KEPT * one.error:
            break
    return found


def _starts(
    space: ProductSpace, target: Effective, inputs: Float[Tensor, "samples seq width"], generator: torch.Generator
) -> list[Candidate]:
    """Truncations towards the target with heads in several orders, hidden units as they are and aligned."""
    heads = list(range(space.scores[0].shape[0]))
    orders = [heads, [*heads[1:], *heads[:1]]] if len(heads) > 1 else [heads]
    found = []
    for aligned in (False, True):
        for chosen in islice(product(orders, repeat=space.depth), STARTS // 2):
            goal = permute_heads(target, chosen)
            if aligned:
                goal = align_hidden(goal, space, moments_of(goal, inputs))
            corrections = start_from_truncation(space, goal, moments_of(goal, inputs))
            found.append(Candidate(woken(corrections, generator), goal, "truncation"))
    return found


def _refinable(frozen: TransformerNetwork, target: TransformerNetwork, closed: Adaptation[TransformerNetwork]) -> bool:
    """Whether every product's corrections can be written as adapters, and anything is left to gain."""
    if closed.certificate.exact or target.embed_dim != frozen.embed_dim:
        return False
    matrices = [parameter.detach().double() for parameter in frozen.parameters() if parameter.ndim > 1]
    flat = [one for matrix in matrices for one in matrix.reshape(-1, *matrix.shape[-2:])]
    return all(numerical_rank(one, dtype=frozen.output.weight.dtype).rank == len(one) for one in flat)


def _closed_form(
    frozen: TransformerNetwork,
    target: TransformerNetwork,
    ranks: Mapping[str, int],
    domain: Domain,
    samples: Tensor,
    deadline: float,
) -> Adaptation[TransformerNetwork]:
    # adapters made small with patience are for exact adaptations; below the threshold this one is but a fallback
    matches = transformer_matches(frozen, target)
    closing = all(match.closed_by(tuple(ranks[name] for name in match.names)) for match in matches)
    patience = deadline if closing else monotonic()
    model, adapters, biases, certificate, methods = adapt_transformer(
        frozen, target, ranks, domain, samples, lambda match, given: solve_match(match, given, patience)
    )
    return Adaptation(model, adapters, biases, certificate, ", ".join(dict.fromkeys(methods)))


def _adaptation(
    found: Adaptation[TransformerNetwork], target: TransformerNetwork, domain: Domain, samples: Tensor, method: str
) -> Adaptation[TransformerNetwork]:
    """With a certificate of its own on this domain."""
    model = found.model
    region = region_of(domain, model.embed_dim, target.embed_dim, model.output.weight.detach())
    radius = domain.radius if isinstance(domain, Ball) else float(region.largest_moduli().norm())
    bounds = bound_transformer(model, target, radius)
    limit = EXACT[coarser_dtype(model, target)] * largest_output(target, domain, target.embed_dim, tokens=TOKENS)
    exact, conditions = bounds.error <= limit, found.certificate.conditions
    expected = None
    if contains(domain, samples):
        expected = min(float(bound_on_samples(model, target, samples).square().mean().sqrt()), bounds.error)
    certificate = Certificate(bounds.error, expected, bounds.residual, exact, domain, () if exact else conditions)
    return replace(found, certificate=certificate, method=method)


def _error(model: TransformerNetwork, target: TransformerNetwork, inputs: Float[Tensor, "samples seq width"]) -> float:
    """Mean squared output error; infinite where it is no number."""
    dtype, narrow, total = model.output.weight.dtype, target.embed_dim, 0.0
    with torch.no_grad():
        for part in inputs.split(CHUNK):
            wanted = target(part[..., :narrow].to(target.output.weight))
            missing = (0, model.embed_dim - part.shape[-1])
            found = model(torch.nn.functional.pad(part, missing).to(dtype))
            padded = torch.nn.functional.pad(wanted.to(dtype), (0, model.embed_dim - narrow))
            total += float((found - padded).double().square().sum())
    error = total / (inputs.shape[0] * inputs.shape[1] * model.embed_dim)
    return error if math.isfinite(error) else math.inf


def _check_start(start: Adaptation[TransformerNetwork] | None, ranks: Mapping[str, int]) -> None:
    for name, adapter in ({} if start is None else start.adapters).items():
        if adapter.rank > ranks.get(name, 0):
            raise RankError(
                f"start must keep to the ranks allowed, but its adapter of {name} has rank {adapter.rank}, "
                f"allowed {ranks.get(name, 0)}; give an adaptation of lower rank"
            )
