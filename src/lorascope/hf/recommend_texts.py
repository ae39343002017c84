"""The rank at which an adapter does what the fine-tune does, on texts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import CheckpointError
from .choose import choose
from .factors import Factors, factorise
from .functional import divergence, load_base, load_full, outputs
from .pairs import Models, Pair
from .quiet import quiet
from .recommend import Recommendation

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["recommend_by_texts"]

LIMIT = 128
"""Largest rank that is tried."""
KEPT = 0.01
"""Share of the base's divergence that may be left."""


def recommend_by_texts(
    models: Models, batches: Sequence[dict[str, Tensor]], energy: Recommendation, progress: Callable[[float, str], None]
) -> Recommendation:
    """The least rank ``r`` with ``KL(tuned || base + LR_r(Delta)) <= 0.01 KL(tuned || base)`` on texts.

    Norms, biases and heads are carried whole, as the profile ``peft`` does; heads that the base does not have count as
    the base's in both.

    Args:
        models: base and tuned.
        batches: tokens.
        energy: the recommendation without texts, whose costs are kept.
        progress: called with the share done and a few words.

    Raises:
        CheckpointError: a model without logits.

    Cost: a forward pass for each of about ten ranks; both models in memory, one after the other, and the factors.
    """
    choice = choose(models, "peft", None, None)
    with quiet():
        told = outputs(load_full(models), batches)
        if told is None or not told[1]:
            raise CheckpointError(
                f"--texts compares distributions, but a {type(models.model).__name__} puts out none; leave it out"
            )
        base = load_base(models)
    before = _divergence(base, batches, told[0])
    _set(base, [(pair, pair.tuned()) for pair in (*choice.values, *choice.biases)])
    found: list[Factors] = []
    for index, pair in enumerate(choice.factors):
        progress(index / len(choice.factors), f"{pair.name} for the texts")
        found.append(factorise(pair, LIMIT))
    measured: dict[int, float] = {}

    def enough(rank: int) -> bool:
        progress(1.0, f"texts at rank {rank}")
        values = [(pair, _at(pair, factors, rank)) for pair, factors in zip(choice.factors, found, strict=True)]
        _set(base, values)
        measured[rank] = _divergence(base, batches, told[0])
        return measured[rank] <= KEPT * before

    high = 1
    while not enough(high) and high < LIMIT:
        high *= 2
    if measured[high] > KEPT * before:
        reason = f"at rank {LIMIT} a plain extraction still leaves {measured[high] / before:.2%} of the KL on the texts"
        return replace(energy, rank=None, reason=reason, divergences=_sorted(measured, before))
    low = high // 2 + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    reason = (
        f"by texts: the least rank whose extraction removes 99 % of the KL between tuned model and base on them "
        f"({before:.3g} nats to {measured[high]:.3g}; by energy: {energy.rank or 'beyond what was computed'})"
    )
    return replace(energy, rank=high, reason=reason, divergences=_sorted(measured, before))


def _divergence(model: "PreTrainedModel", batches: Sequence[dict[str, Tensor]], wanted: Tensor) -> float:
    got = outputs(model, batches)
    assert got is not None
    return divergence(wanted, got[0])


def _at(pair: Pair, factors: Factors, rank: int) -> Tensor:
    """The base plus the leading ``rank`` directions, as stored: factors are sorted by singular value."""
    change = factors.B[..., :rank] @ factors.A[..., :rank, :]
    return pair.base() + pair.oriented(change)


def _set(model: "PreTrainedModel", values: Sequence[tuple[Pair, Tensor]]) -> None:
    parameters = model.state_dict(keep_vars=True)
    with torch.no_grad():
        for pair, value in values:
            parameters[pair.name].copy_(value)


def _sorted(measured: dict[int, float], before: float) -> list[tuple[int, float]]:
    """Rank 0 is the base itself."""
    return [(0, before), *sorted(measured.items())]
