"""Corrections of products written as adapters of the ranks allowed."""

import math
from collections.abc import Mapping, Sequence
from time import monotonic

import torch
from torch import Tensor

from ...adaptation import hidden_shift
from ...linalg import product, truncate
from ...models import Adapter, TransformerNetwork, merge
from ...theory import Match
from ..chain import solve_match
from ..factors import Factors
from ..path import share
from ..schur import schur
from .transformer_space import Corrections, ProductSpace

__all__ = ["realise"]

# Adapters are taken as the Schur form gives them where the product is as accurate as ACCEPTED, relative to its goal.
# Where an adapter exceeds LARGE norms of the frozen matrices, smaller ones are looked for, for PATIENCE seconds a
# product; but not where even the Schur form misses ACCURATE, for there the search would not stop in time.
ACCURATE = 1e-11
ACCEPTED = 1e-8
LARGE = 100.0
PATIENCE = 0.3
LONGEST = 5.0  # seconds beyond that at which a search that has found nothing ends
TINY = 1e-300


def realise(
    frozen: TransformerNetwork,
    space: ProductSpace,
    found: Corrections,
    ranks: Mapping[str, int],
    deadline: float = math.inf,
) -> tuple[TransformerNetwork, dict[str, Adapter], dict[str, Tensor]]:
    """Adapters of rank at most ``ranks`` and biases with which ``frozen`` computes what ``found`` says.

    Feed-forward corrections are adapters as they stand. Every other correction ``u v`` is one of a product of two
    matrices, seen through the adapted feed-forward matrices: ``(F^{-1} u)(v M^{-1})``; the two factors follow by
    :func:`..chain.solve_match`.

    Args:
        frozen: left as it is; its matrices non-singular.
        space: of ``frozen`` and ``ranks``, in float64.
        found: one member.
        ranks: parameter name -> rank.
        deadline: of :func:`time.monotonic`; after it adapters are not made smaller.

    Returns:
        The merged model, its adapters and its biases, in the dtype of ``frozen``.
    """
    given = {name: value.detach().double() for name, value in found.items()}
    adapters = {
        f"blocks.{index}.{name}.weight": Adapter(
            A=given[f"{index}.{name}.right"][0], B=given[f"{index}.{name}.left"][0]
        )
        for index in range(space.depth)
        for name in ("ffn_in", "ffn_out")
        if f"{index}.{name}.left" in given
    }
    biases: dict[str, Tensor] = {}
    for index, block in enumerate(frozen.layers):
        query, key, value, out = (getattr(block, name).detach().double() for name in ("query", "key", "value", "out"))
        inner = space.inner(index - 1, given)[0] if index else None
        first = space.first(index, given)[0]
        prefix = f"blocks.{index}"
        solved = [
            _solved(f"{prefix}.query", f"{prefix}.key", (query[head], key[head].T), pair, ranks, deadline)
            for head, pair in enumerate(_seen(given, f"{index}.score", None if inner is None else inner.T, inner))
        ]
        adapters |= _assembled(f"{prefix}.query", f"{prefix}.key", solved, transposed=True)
        solved = [
            _solved(f"{prefix}.value", f"{prefix}.out", (value[head], out[head]), pair, ranks, deadline)
            for head, pair in enumerate(_seen(given, f"{index}.value", first, inner))
        ]
        adapters |= _assembled(f"{prefix}.value", f"{prefix}.out", solved, transposed=False)
        biases[f"{prefix}.ffn_in.bias"] = given[f"{index}.bias"][0]
        if index < space.depth - 1:
            biases[f"{prefix}.ffn_out.bias"] = space.inner(index, given)[0] @ given[f"{index + 1}.shift"][0]
    last, output = frozen.layers[-1].ffn_out.weight.detach().double(), frozen.output.weight.detach().double()
    name = f"blocks.{space.depth - 1}.ffn_out"
    if "final.left" in given:
        pair = (given["final.left"][0], given["final.right"][0])
        final = _solved(f"{name}.weight", "output.weight", (last, output), pair, ranks, deadline)
        adapters |= {
            key: Adapter(A=adapter.A[0], B=adapter.B[0])
            for key, adapter in _assembled(f"{name}.weight", "output.weight", [final], transposed=False).items()
        }
        output = final.adapted(torch.stack([last, output]))[1]
    biases[f"{name}.bias"] = hidden_shift(output, given["offset"][0])
    dtype = frozen.output.weight.dtype
    adapters = {name: Adapter(A=one.A.to(dtype), B=one.B.to(dtype)) for name, one in adapters.items()}
    biases = {name: value.to(dtype) for name, value in biases.items()}
    return merge(frozen, adapters, biases), adapters, biases


def _seen(given: Corrections, part: str, before: Tensor | None, after: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    """Each head's correction as it stands inside the feed-forward matrices around it."""
    if f"{part}.left" not in given:
        return []
    left, right = given[f"{part}.left"][0], given[f"{part}.right"][0]
    left = left if before is None else torch.linalg.solve(before, left)
    right = right if after is None else torch.linalg.solve(after, right, left=False)
    return list(zip(left, right, strict=True))


def _solved(
    first: str,
    second: str,
    weights: tuple[Tensor, Tensor],
    correction: tuple[Tensor, Tensor],
    ranks: Mapping[str, int],
    deadline: float,
) -> Factors:
    """Adapters of two matrices whose product gets the correction: the Schur form, or smaller ones where it is large."""
    width, frozen = len(weights[0]), torch.stack(weights)
    allowed = (min(ranks[first], width), min(ranks[second], width))
    outputs, inputs = truncate(correction[0] @ correction[1], min(sum(allowed), width))
    goal = weights[1] @ weights[0] + outputs @ inputs
    factors = schur(frozen, outputs, inputs, share(len(inputs), allowed))
    off = float((product(factors.adapted(frozen)) - goal).norm()) / float(goal.norm().clamp(min=TINY))
    small = factors.norm() <= LARGE * float(torch.linalg.matrix_norm(frozen, 2).max())
    if (small or off > ACCURATE) and off <= ACCEPTED:
        return factors
    eye = torch.eye(width, dtype=torch.float64, device=goal.device)
    match = Match((first, second), frozen, eye, eye, goal, transposed=(False, False))
    return solve_match(match, allowed, min(deadline, monotonic() + PATIENCE), LONGEST).factors


def _assembled(first: str, second: str, heads: Sequence[Factors], *, transposed: bool) -> dict[str, Adapter]:
    """Adapters of both parameters, heads in front; ``transposed``: the second one stands in the product as W^T."""
    found = {}
    for place, name in enumerate((first, second)):
        factors = Factors(tuple(one.left[place] for one in heads), tuple(one.right[place] for one in heads))
        rank = max((len(right) for right in factors.right), default=0)
        if rank:
            left, right = factors.stacked(rank)
            flip = transposed and place == 1
            found[name] = Adapter(A=left.mT, B=right.mT) if flip else Adapter(A=right, B=left)
    return found
