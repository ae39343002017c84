"""Factors of values and outputs, fitted together where a budget cut them short."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from ..models import Adapter
from .attention import Attention, attentions
from .calibration import Calibration
from .factors import Factors, settled
from .pairs import Models, Pair
from .products import ProductWeights, products_of, refine_products
from .second_moment import Root
from .work import Work

__all__ = ["fit_heads"]

WORTH = 0.95
"""Share of the products' error that may be left; each matrix by itself gets worse, and a smaller gain would not pay."""


def fit_heads(
    models: Models,
    pairs: Sequence[Pair],
    found: Sequence[Factors],
    cut_short: Sequence[bool],
    work: Work,
    calibration: Calibration | None,
    progress: Callable[[float, str], None],
) -> list[Factors]:
    """Of every attention whose values and outputs are matrices of their own: the heads' products, at the same ranks.

    Taken where it lowers the products' error by a twentieth at least.

    Args:
        models: base and tuned.
        pairs: the matrices.
        found: their factors.
        cut_short: whether a budget left out directions of each; where none of the two was, they stay as they are.
        work: where the result is kept.
        calibration: weights, or None.
        progress: called with the share done and a few words.

    Returns:
        The factors, residuals measured where they changed.

    Cost: ``refine_products``, an attention at a time.
    """
    made = list(found)
    place = {pair.name: index for index, pair in enumerate(pairs)}
    open_ = [
        attention
        for attention in attentions(models.model, models.pairs)
        if _separate(attention, place)
        and any(cut_short[place[name]] for name in _names(attention))
        and all(made[place[name]].rank for name in _names(attention))
    ]
    for number, attention in enumerate(open_):
        progress(number / len(open_), f"{attention.name}, values and outputs")
        indices = [place[name] for name in _names(attention)]
        kept = [work.load(index, "heads") for index in indices]
        # the second is written last
        if kept[1] is None:
            kept = _fitted(
                attention, [pairs[index] for index in indices], [made[index] for index in indices], calibration
            )
            for index, factors in zip(indices, kept, strict=True):
                work.save(index, factors, "heads")
        for index, factors in zip(indices, kept, strict=True):
            assert factors is not None
            made[index] = factors
    return made


def _names(attention: Attention) -> tuple[str, str]:
    return attention.value.pair.name, attention.out.pair.name


def _separate(attention: Attention, place: dict[str, int]) -> bool:
    parts = attention.value, attention.out
    return all(part.third is None and part.pair.name in place and part.pair.load_change is None for part in parts)


def _fitted(
    attention: Attention, pairs: Sequence[Pair], start: Sequence[Factors], calibration: Calibration | None
) -> list[Factors]:
    adapters = [Adapter(factors.A.double(), factors.B.double()) for factors in start]
    fitted = refine_products(
        products_of(attention),
        (start[0].rank, start[1].rank),
        torch.Generator().manual_seed(0),
        start=(adapters[0], adapters[1]),
        weights=_weights(pairs, calibration),
    )
    if fitted.error > WORTH * fitted.start_error:
        return list(start)
    made: list[Factors] = []
    for pair, factors, adapter in zip(pairs, start, (fitted.value, fitted.out), strict=True):
        mean = None if calibration is None else calibration.mean(pair)
        made.append(settled(pair, replace(factors, A=adapter.A.float(), B=adapter.B.float()), mean))
    return made


def _weights(pairs: Sequence[Pair], calibration: Calibration | None) -> ProductWeights | None:
    """Of the values' inputs and the outputs' gradients; None where either is not known whole."""
    if calibration is None:
        return None
    value, out = (calibration.weights(pair) for pair in pairs)
    if value is None or out is None or value.right.dim() == 1 or out.left.dim() == 1:
        return None
    return ProductWeights(Root(value.right, None), Root(out.left, None))
