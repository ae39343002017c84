"""Frozen transformers of any form adapted to a target: products matched one by one, biases that go with them."""

from collections.abc import Callable, Mapping

from torch import Tensor

from ..adaptation import EXACT, Ball, Certificate, Domain, bound_variant, contains, largest_output, variant_on_samples
from ..models import Adapter, TransformerNetwork, merge
from ..theory import Match, NarrowMatch, VariantPlan, coarser_dtype, plan_variant
from .assemble import assembled, token_radius
from .chain import Solution
from .variant_biases import variant_biases

__all__ = ["adapt_variant", "certify_variant"]

TOKENS = 8


def adapt_variant(
    frozen: TransformerNetwork,
    target: TransformerNetwork,
    ranks: Mapping[str, int],
    domain: Domain | None,
    samples: Tensor,
    solve: Callable[[Match, tuple[int, ...]], Solution],
    solve_narrow: Callable[[NarrowMatch, tuple[int, ...]], Solution],
) -> tuple[TransformerNetwork, dict[str, Adapter], dict[str, Tensor], Certificate, tuple[str, ...]]:
    """Adapters product by product, the biases and normalisations that go with them, and the certificate.

    Returns:
        The merged model, its adapters and biases, the certificate, and the constructions used, product by product.

    Source: new; extends Zeng & Lee 2024, Theorem 7 (proof).
    """
    plan = plan_variant(frozen, target)
    parts: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}
    methods: list[str] = []
    conditions: list[str] = []
    closed = True
    for match in plan.matches:
        given = tuple(ranks[name] for name in match.names)
        solution = solve_narrow(match, given) if isinstance(match, NarrowMatch) else solve(match, given)
        methods.append(solution.method)
        conditions += solution.conditions
        closed = closed and match.closed_by(given)
        for name, b, a, flip in zip(
            match.names, solution.factors.left, solution.factors.right, match.transposed, strict=True
        ):
            parts.setdefault(name, {})[match.head or 0] = (a.T, b.T) if flip else (b, a)
    adapters = assembled(frozen, parts)
    model, biases, certificate = certify_variant(frozen, target, plan, adapters, domain, samples, closed, conditions)
    return model, adapters, biases, certificate, tuple(methods)


def certify_variant(
    frozen: TransformerNetwork,
    target: TransformerNetwork,
    plan: VariantPlan,
    adapters: Mapping[str, Adapter],
    domain: Domain | None,
    samples: Tensor,
    closed: bool,
    conditions: list[str],
) -> tuple[TransformerNetwork, dict[str, Tensor], Certificate]:
    """The model with the adapters and their biases merged in, those biases, and the certificate.

    Args:
        frozen, target: the pair.
        plan: of the same pair.
        adapters: of the frozen model's parameters.
        domain: of every token; default ``Ball(6 sqrt(width))``.
        samples: (number, tokens, width), for the expected error.
        closed: whether the ranks suffice.
        conditions: what is known to limit exactness so far.
    """
    domain = Ball(6 * frozen.embed_dim**0.5) if domain is None else domain
    radius = token_radius(domain, target, frozen)
    biases, notes = variant_biases(merge(frozen, adapters), target, plan)
    model = merge(frozen, adapters, biases)
    bounds = bound_variant(model, target, radius, [block.frame for block in plan.blocks])
    limit = EXACT[coarser_dtype(model, target)] * largest_output(target, domain, target.embed_dim, tokens=TOKENS)
    exact = closed and bounds.error <= limit
    notes = [*conditions, *notes]
    if closed and not exact:
        amplified = "" if model.norm_place is None else ", which normalisations amplify by up to 1/sqrt(eps) each"
        notes.append(
            f"conditioning: the ranks suffice and products match to {bounds.residual:.3g}, but rounding may change "
            f"attention scores by {max(bounds.score_error):.3g} on this domain{amplified}; the bound is "
            f"{bounds.error:.3g}, exact means at most {limit:.3g}"
        )
    expected = None
    if contains(domain, samples):
        expected = min(float(variant_on_samples(model, target, samples).square().mean().sqrt()), bounds.error)
    return model, biases, Certificate(bounds.error, expected, bounds.residual, exact, domain, tuple(notes))
