"""Adapters of the values and the outputs of one attention, fitted together to the heads' products."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import RankError, ShapeError, SpecError
from ..linalg import leading, truncate
from ..models import Adapter
from ..shapes import Float
from .attention import Attention
from .product_steps import Heads, gap_norm, out_step, split_out, value_step
from .second_moment import Root

__all__ = ["ProductFactors", "ProductWeights", "Products", "product_error", "products_of", "refine_products"]

SWEEPS = 8
"""At most; most of the gain comes in the first two."""
_ENOUGH = 1e-3  # share of the squared error that a sweep must gain for another


@dataclass(frozen=True)
class Products:
    """The matrices whose products count: head ``h`` puts out ``O_h (V_k x + b_k)``, ``k`` its group.

    Attributes:
        value, value_tuned: ``W_V`` and ``W_V'``, (groups head_dim, inp).
        out, out_tuned: ``W_O`` and ``W_O'``, (out, heads head_dim).
        heads, groups: query heads, and value heads that equal numbers of them share.
        bias: ``b_V'``, (groups head_dim,), of the tuned model, carried as it is; None: there is none, or it is not to
            count.
    """

    value: Tensor
    value_tuned: Tensor
    out: Tensor
    out_tuned: Tensor
    heads: int
    groups: int
    bias: Tensor | None = None


@dataclass(frozen=True)
class ProductWeights:
    """What an error of the products weighs; None: as much in every direction.

    Attributes:
        inputs: root of ``C = E[x x^T]``, second moment of the values' inputs.
        gradients: root of ``F = E[g g^T]``, second moment of the gradients at the outputs' output.
        mean: ``E[x]``; None: zero. It matters beside a bias alone.
    """

    inputs: Root | None = None
    gradients: Root | None = None
    mean: Float[Tensor, " inp"] | None = None


@dataclass(frozen=True)
class ProductFactors:
    """Adapters that fit the products.

    Attributes:
        value, out: float64, each with factors of equal norms.
        error: relative error of the products, as :func:`product_error`.
        start_error: of the start.
        sweeps: pairs of steps taken.
    """

    value: Adapter
    out: Adapter
    error: float
    start_error: float
    sweeps: int


def refine_products(
    given: Products,
    ranks: tuple[int, int],
    generator: torch.Generator,
    *,
    start: tuple[Adapter, Adapter] | None = None,
    weights: ProductWeights | None = None,
    sweeps: int = SWEEPS,
) -> ProductFactors:
    """Fit the adapters of values and outputs together, by turns, each as well as the other allows.

    ``min sum_h |F^(1/2) (O_h' V_k' - (O_h + dO_h) (V_k + dV_k)) C^(1/2)|_F^2``, ``rank dV <= r_V``, ``rank dO <= r_O``;
    with a bias and mean ``m`` the products act on ``[x; 1]``. No step raises the error. A minimum of both together
    need not be the least one.

    Args:
        given: base and tuned matrices of one attention.
        ranks: ``r_V, r_O``.
        generator: draws the starts of large truncations.
        start: adapters of the values and of the outputs; None: the best of each matrix by itself, under the weights.
        weights: from calibration; None: all directions alike.
        sweeps: pairs of steps (outputs, then values) at most; fewer once they gain little. 0: the start.

    Returns:
        The adapters and their error.

    Raises:
        ShapeError: matrices, weights or a start that do not fit each other.
        RankError: negative ranks.
        SpecError: values that are not finite.

    Source: alternating reduced-rank regressions (Izenman 1975), each solved by Eckart & Young 1936 in the coordinates
    that the other factor gives. Cost a sweep: two truncations, and O(heads out head_dim^2 + groups inp head_dim^2).

    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> found = refine_products(Products(one, 2 * one, one, 3 * one, 1, 1), (0, 1), torch.Generator().manual_seed(0))
    >>> round(found.out.delta.item(), 6), round(found.error, 6)  # the output does what the value may not: 6 = (1 + 5) 1
    (5.0, 0.0)
    """
    weights = weights or ProductWeights()
    _check(given, ranks, start, weights)
    base = _heads(given, weights)
    adapters = _start(base, ranks, generator) if start is None else _inside(start, weights)
    value, out = adapters
    whole, error = gap_norm(base), gap_norm(base.with_value(value).with_out(out))
    first, taken = error, 0
    while taken < sweeps and error > 0:
        before = error
        out = out_step(base, base.with_value(value), out, generator, ranks[1])
        value = value_step(base, base.with_out(out), value, generator, ranks[0])
        error = gap_norm(base.with_value(value).with_out(out))
        taken += 1
        if before**2 - error**2 <= _ENOUGH * before**2:
            break
    value, out = (_balanced(adapter) for adapter in _outside((value, out), weights))
    return ProductFactors(value, out, _relative(error, whole), _relative(first, whole), taken)


def product_error(
    given: Products, value: Adapter, out: Adapter, weights: ProductWeights | None = None
) -> tuple[float, float]:
    """Error of the products with two adapters, and without any, in the norm that :func:`refine_products` lowers.

    ``sqrt(sum_h |O_h' V_k' - (O_h + dO_h)(V_k + dV_k)|^2)`` and ``sqrt(sum_h |O_h' V_k' - O_h V_k|^2)``. Absolute, so
    that those of several attentions may be put together.

    Args:
        given: base and tuned matrices.
        value, out: adapters of the values and of the outputs.
        weights: from calibration; None: all directions alike.

    Raises:
        ShapeError, SpecError: as :func:`refine_products`.

    Cost O(heads out head_dim^2 + groups inp head_dim^2).
    """
    weights = weights or ProductWeights()
    _check(given, (value.rank, out.rank), (value, out), weights)
    base = _heads(given, weights)
    value, out = _inside((value, out), weights)
    return gap_norm(base.with_value(value).with_out(out)), gap_norm(base)


def products_of(attention: Attention, bias: Float[Tensor, " rows"] | None = None) -> Products:
    """Load one attention's matrices, float64.

    Args:
        attention: found by ``attentions``.
        bias: of the tuned model's values; None: there is none, or it does not count.
    """
    value, out = attention.value.values(), attention.out.values()
    return Products(*value, *out, attention.heads, attention.groups, bias)


def _heads(given: Products, weights: ProductWeights) -> Heads:
    """By head, in coordinates in which weights are the identity; a bias is one more column that stays as it is."""
    values = [matrix.double() for matrix in (given.value, given.value_tuned)]
    outs = [matrix.double() for matrix in (given.out, given.out_tuned)]
    if weights.inputs is not None:
        values = [weights.inputs.times(value) for value in values]
    if weights.gradients is not None:
        outs = [weights.gradients.times(out.T).T for out in outs]
    reached = values[0].shape[1]
    if given.bias is not None:
        values = [_with_bias(value, given.bias.double(), weights) for value in values]
    head_dim = given.out.shape[1] // given.heads
    first, second = (value.view(given.groups, head_dim, value.shape[1]) for value in values)
    third, fourth = (split_out(out, given.groups, head_dim) for out in outs)
    return Heads(first, second, third, fourth, reached)


def _with_bias(value: Tensor, bias: Tensor, weights: ProductWeights) -> Tensor:
    """``[V b] [L 0; u^T s]``: a root of the second moment of ``[x; 1]`` has ``u = L^+ m``, ``s^2 = 1 - |u|^2``."""
    if weights.mean is None:
        return torch.cat([value, bias[:, None]], dim=1)
    assert weights.inputs is not None
    along = weights.inputs.under(weights.mean.double()[:, None])[:, 0]
    rest = math.sqrt(max(1 - float(along.square().sum()), 0.0))
    return torch.cat([value + bias[:, None] * along, bias[:, None] * rest], dim=1)


def _start(base: Heads, ranks: tuple[int, int], generator: torch.Generator) -> tuple[Adapter, Adapter]:
    """Either difference's own best approximation."""
    value = (base.value_tuned - base.value)[..., : base.reached].flatten(0, 1)
    out = (base.out_tuned - base.out).permute(2, 0, 1, 3).flatten(1)
    found = [leading(difference, rank, generator) for difference, rank in zip((value, out), ranks, strict=True)]
    return Adapter(found[0].right, found[0].left), Adapter(found[1].right, found[1].left)


def _inside(adapters: tuple[Adapter, Adapter], weights: ProductWeights) -> tuple[Adapter, Adapter]:
    """Adapters in the coordinates in which weights are the identity."""
    value, out = (Adapter(adapter.A.double(), adapter.B.double()) for adapter in adapters)
    if weights.inputs is not None:
        value = replace(value, A=weights.inputs.times(value.A))
    if weights.gradients is not None:
        out = replace(out, B=weights.gradients.times(out.B.T).T)
    return value, out


def _outside(adapters: tuple[Adapter, Adapter], weights: ProductWeights) -> tuple[Adapter, Adapter]:
    """Back again; nothing in directions of no weight."""
    value, out = adapters
    if weights.inputs is not None:
        value = replace(value, A=weights.inputs.over(value.A))
    if weights.gradients is not None:
        out = replace(out, B=weights.gradients.over(out.B.T).T)
    return value, out


def _balanced(adapter: Adapter) -> Adapter:
    """Factors of the same product that carry the square roots of its singular values, as a plain extraction's do."""
    left, first = torch.linalg.qr(adapter.B)
    right, second = torch.linalg.qr(adapter.A.T)
    inner_left, inner_right = truncate(first @ second.T, adapter.rank)
    return Adapter(inner_right @ right.T, left @ inner_left)


def _relative(error: float, whole: float) -> float:
    return error / whole if whole else 0.0


def _check(
    given: Products, ranks: tuple[int, int], start: tuple[Adapter, Adapter] | None, weights: ProductWeights
) -> None:
    """All that does not fit, at once.

    Raises:
        ShapeError, RankError, SpecError: as :func:`refine_products`.
    """
    if min(ranks) < 0:
        raise RankError(f"ranks must not be negative, got {ranks[0]} and {ranks[1]}")
    faults = _faults(given, start, weights)
    if faults:
        raise ShapeError("; ".join(faults))
    if weights.mean is not None and weights.inputs is None:
        raise SpecError("a mean of the inputs needs their second moment beside it, got none; give both")
    matrices = (given.value, given.value_tuned, given.out, given.out_tuned)
    if not all(bool(matrix.isfinite().all()) for matrix in matrices):
        raise SpecError("weights must be finite, got NaN or infinity; save the model again")


def _faults(given: Products, start: tuple[Adapter, Adapter] | None, weights: ProductWeights) -> list[str]:
    """Shapes that do not fit."""
    (rows, inp), (out, cols) = given.value.shape, given.out.shape
    heads, groups = given.heads, given.groups
    faults: list[str] = []
    if min(heads, groups) < 1 or heads % groups or cols % heads or cols // heads * groups != rows:
        faults.append(f"{groups} groups of {rows} value rows must fit {heads} heads of {cols} output columns")
    wanted: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = [
        ("the tuned values", given.value_tuned.shape, (rows, inp)),
        ("the tuned outputs", given.out_tuned.shape, (out, cols)),
    ]
    if given.bias is not None:
        wanted.append(("the values' bias", given.bias.shape, (rows,)))
    if weights.mean is not None:
        wanted.append(("the inputs' mean", weights.mean.shape, (inp,)))
    if weights.inputs is not None:
        wanted.append(("the inputs' second moment", (len(weights.inputs.factor),) * 2, (inp, inp)))
    if weights.gradients is not None:
        wanted.append(("the gradients' second moment", (len(weights.gradients.factor),) * 2, (out, out)))
    if start is not None:
        value, output = ((len(adapter.B), adapter.A.shape[1]) for adapter in start)
        wanted += [("the values' start", value, (rows, inp)), ("the outputs' start", output, (out, cols))]
    wrong = [(name, came, shape) for name, came, shape in wanted if tuple(came) != shape]
    return faults + [f"{name} must have shape {list(shape)}, got {list(came)}" for name, came, shape in wrong]
