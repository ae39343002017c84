"""A frozen FNN adapted to a target FNN: solved products, provable biases, certificate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..adaptation import EXACT, Ball, Certificate, Domain, bound_fnn, largest_output, region_of, stages_of
from ..models import FNN, Adapter, merge
from ..theory import Match, Partition, coarser_dtype, fnn_matches, padded_biases
from .chain import Solution
from .linearize import linearizing_biases

__all__ = ["Realised", "Solver", "adapt_fnn", "realise_fnn"]

Solver = Callable[[Match, tuple[int, ...]], Solution]


@dataclass(frozen=True)
class Realised:
    """Adapters and biases that make a frozen FNN act as another one, group by group.

    Attributes:
        model: the frozen one with them merged in.
        adapters, biases: by parameter name.
        methods: the construction used, group by group.
        conditions: what limits exactness, in words and numbers.
        closed: whether the ranks suffice for every group.
        matches, shifts: what was matched: products, and the biases after them.
    """

    model: FNN
    adapters: dict[str, Adapter]
    biases: dict[str, Tensor]
    methods: tuple[str, ...]
    conditions: tuple[str, ...]
    closed: bool
    matches: list[Match]
    shifts: list[Tensor]


def adapt_fnn(
    frozen: FNN,
    target: FNN,
    ranks: Mapping[str, int],
    partition: Partition,
    domain: Domain | None,
    samples: Tensor | None,
    solve: Solver,
) -> tuple[FNN, dict[str, Adapter], dict[str, Tensor], Certificate, tuple[str, ...]]:
    """Adapters from ``solve`` group by group, biases that linearise each group, and the certificate of the result.

    The next group's region is that of the adapted map, so the biases hold below the threshold as well.

    Returns:
        The merged model, its adapters and biases, the certificate, and the constructions used, group by group.
    """
    domain = Ball(6 * frozen.width**0.5) if domain is None else domain
    found = realise_fnn(frozen, target, ranks, partition, domain, solve)
    certificate = _certify(found, target, partition, domain, samples)
    return found.model, found.adapters, found.biases, certificate, found.methods


def realise_fnn(
    frozen: FNN, target: FNN, ranks: Mapping[str, int], partition: Partition, domain: Domain, solve: Solver
) -> Realised:
    """Adapters and biases with which the groups of ``partition`` act as the target's layers on the domain."""
    dtype = frozen.linears[0].weight.dtype
    matches = fnn_matches(frozen, target, partition)
    shifts = padded_biases(frozen, target)
    region = region_of(domain, frozen.width, matches[0].wanted.shape[1], matches[0].wanted)
    adapters: dict[str, Adapter] = {}
    biases: dict[str, Tensor] = {}
    methods, conditions, closed = [], [], True
    for match, shift, group in zip(matches, shifts, partition, strict=True):
        group_ranks = tuple(ranks[name] for name in match.names)
        solution = solve(match, group_ranks)
        methods.append(solution.method)
        conditions += solution.conditions
        closed = closed and match.closed_by(group_ranks)
        found = {
            name: Adapter(A=a.to(dtype), B=b.to(dtype))
            for name, a, b in zip(match.names, solution.factors.right, solution.factors.left, strict=True)
            if len(a)
        }
        merged = merge(frozen, found)
        weights = [merged.linears[layer].weight.detach().double() for layer in group]
        if frozen.activation == "relu":
            values, region = linearizing_biases(weights, shift, region, dtype)
        else:
            values = _last_bias(merged, weights, shift, dtype)
        if frozen.has_bias:
            biases |= {f"layers.{layer}.bias": value.to(dtype) for layer, value in zip(group, values, strict=True)}
        elif shift.abs().max() > 0:
            conditions.append(f"the target has biases (norm {float(shift.norm()):.3g}), the frozen model has none")
        adapters |= found
    model = merge(frozen, adapters, biases)
    return Realised(model, adapters, biases, tuple(methods), tuple(conditions), closed, matches, shifts)


def _last_bias(model: FNN, weights: list[Tensor], shift: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Identity networks: all biases stay but the last, which makes up for them."""
    offset = torch.zeros_like(shift)
    values = [layer.bias.detach().double() for layer in model.linears] if model.has_bias else []
    for weight, bias in zip(weights[:-1], values, strict=False):
        offset = weight @ offset + bias
    return [*values[:-1], (shift - weights[-1] @ offset).to(dtype).double()]


def _certify(found: Realised, target: FNN, partition: Partition, domain: Domain, samples: Tensor | None) -> Certificate:
    model, matches, conditions = found.model, found.matches, list(found.conditions)
    eps, target_eps = (torch.finfo(m.linears[0].weight.dtype).eps for m in (model, target))
    goals = [match.wanted for match in matches]
    bounds = bound_fnn(
        stages_of(model, partition, goals, found.shifts), domain, model.activation == "relu", eps, target_eps, samples
    )
    largest = largest_output(target, domain, matches[0].wanted.shape[1])
    limit = EXACT[coarser_dtype(model, target)] * largest
    exact = found.closed and bounds.error <= limit
    if bounds.inactive:
        conditions.append(f"groups {list(bounds.inactive)}: hidden ReLUs may switch off; bounded by relaxation")
    if found.closed and not exact and not found.conditions:
        conditions.append(
            f"rounding: the ranks suffice, but the error bound is {bounds.error:.3g} (floating point alone "
            f"{bounds.rounding:.3g}, worst relative residual {bounds.residual:.3g}); exact means at most {limit:.3g}"
        )
    return Certificate(bounds.error, bounds.expected, bounds.residual, exact, domain, tuple(conditions))
