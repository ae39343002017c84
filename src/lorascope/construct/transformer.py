"""A frozen transformer adapted to a target transformer: pairs of matrices matched head by head."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..adaptation import (
    EXACT,
    Ball,
    Certificate,
    Domain,
    bound_on_samples,
    bound_transformer,
    contains,
    hidden_shift,
    largest_output,
)
from ..linalg import product
from ..models import Adapter, TransformerNetwork, merge
from ..theory import Match, coarser_dtype
from .assemble import assembled, missed, token_radius
from .chain import Solution
from .conditioning import condition_feed_forward

__all__ = ["adapt_transformer"]

TOKENS = 8
# Relative residual of the products beyond which it is not conditioning that keeps them apart.
MATCHED = 1e-4


def adapt_transformer(
    frozen: TransformerNetwork,
    target: TransformerNetwork,
    ranks: Mapping[str, int],
    domain: Domain | None,
    samples: Tensor,
    solve: Callable[[Match, tuple[int, ...]], Solution],
) -> tuple[TransformerNetwork, dict[str, Adapter], dict[str, Tensor], Certificate, tuple[str, ...]]:
    """Adapters from ``solve`` pair by pair, the biases that go with them, and the certificate.

    Returns:
        The merged model, its adapters and biases, the certificate, and the constructions used, pair by pair.

    Source: Zeng & Lee 2024, Theorem 7 (proof).
    """
    domain = Ball(6 * frozen.embed_dim**0.5) if domain is None else domain
    radius = token_radius(domain, target, frozen)
    adapters, matches = condition_feed_forward(frozen, target, ranks)
    parts: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}
    products: list[tuple[Match, Tensor]] = []
    methods, conditions, closed = [], [], True
    for match in matches:
        pair_ranks = tuple(ranks[name] for name in match.names)
        solution = solve(match, pair_ranks)
        methods.append(solution.method)
        conditions += solution.conditions
        closed = closed and match.closed_by(pair_ranks)
        products.append((match, match.left @ product(solution.factors.adapted(match.weights)) @ match.right))
        for name, b, a, flip in zip(
            match.names, solution.factors.left, solution.factors.right, match.transposed, strict=True
        ):
            parts.setdefault(name, {})[match.head or 0] = (a.T, b.T) if flip else (b, a)
    adapters |= assembled(frozen, parts)
    biases, notes = _biases(merge(frozen, adapters), target, products, radius)
    model = merge(frozen, adapters, biases)
    bounds = bound_transformer(model, target, radius)
    largest = largest_output(target, domain, target.embed_dim, tokens=TOKENS)
    limit = EXACT[coarser_dtype(model, target)] * largest
    conditions += notes
    exact = closed and bounds.error <= limit
    if closed and not exact and bounds.residual > MATCHED:
        conditions.append(
            f"the ranks suffice for every pair, but products match only to {bounds.residual:.3g}: a frozen matrix they "
            f"are seen through is singular; the bound is {bounds.error:.3g}"
        )
    elif closed and not exact:
        conditions.append(
            f"conditioning: the ranks suffice and products match to {bounds.residual:.3g}, but rounding may change "
            f"attention scores by {max(bounds.score_error):.3g} on this domain; the bound is {bounds.error:.3g}, exact "
            f"means at most {limit:.3g}"
        )
    expected = None
    if contains(domain, samples):
        expected = min(float(bound_on_samples(model, target, samples).square().mean().sqrt()), bounds.error)
    certificate = Certificate(bounds.error, expected, bounds.residual, exact, domain, tuple(conditions))
    return model, adapters, biases, certificate, tuple(methods)


def _biases(
    model: TransformerNetwork, target: TransformerNetwork, products: list[tuple[Match, Tensor]], radius: float
) -> tuple[dict[str, Tensor], list[str]]:
    """Biases of both networks' hidden values agree, and hidden units the target does not have are off.

    ``b_1`` is the target's, ``W_2 s`` with ``W2bar s = b2bar`` stands for its second one, and the last makes up for
    the adapted output matrix.
    """
    narrow, width = target.embed_dim, model.embed_dim
    biases: dict[str, Tensor] = {}
    notes: list[str] = []
    bound = radius  # on the norm of the adapted hidden values (of the input, for the first block), with their shift
    for index, (block, goal) in enumerate(zip(model.layers, target.layers, strict=True)):
        value = [seen for match, seen in products if match.names[0] == f"blocks.{index}.value"]
        first = goal.ffn_in.bias.detach().double()
        leak = sum(float(torch.linalg.matrix_norm(seen[narrow:], 2)) for seen in value) if narrow < width else 0.0
        off = first.new_full((width - narrow,), -(1.01 * leak * bound + 0.01 * (1 + float(first.abs().max()))))
        biases[f"blocks.{index}.ffn_in.bias"] = torch.cat([first, off])
        hidden = sum(float(torch.linalg.matrix_norm(seen[:narrow], 2)) for seen in value) * bound + float(first.norm())
        second = goal.ffn_out.bias.detach().double()
        if index < model.depth - 1:
            mixed = goal.ffn_out.weight.detach().double()
            shift = hidden_shift(mixed, second)
            biases[f"blocks.{index}.ffn_out.bias"] = block.ffn_out.weight.detach().double()[:, :narrow] @ shift
            notes += missed(f"blocks.{index}.ffn_out.bias", mixed @ shift - second, second)
            bound = hidden + float(shift.norm())
        else:
            final = model.output.weight.detach().double()
            wanted = target.output.weight.detach().double() @ second
            padded = torch.nn.functional.pad(wanted, (0, width - narrow))
            shift = hidden_shift(final, padded)
            biases[f"blocks.{index}.ffn_out.bias"] = shift
            notes += missed(f"blocks.{index}.ffn_out.bias", final @ shift - padded, padded)
    dtype = model.output.weight.dtype
    return {name: value.to(dtype) for name, value in biases.items()}, notes
