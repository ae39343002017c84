"""An adapter's file against the two models it stands between, matrix by matrix."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .pairs import Models, Pair, open_models

__all__ = ["Measured", "measured"]

_SLICE = 1 << 18  # entries at a time


@dataclass(frozen=True)
class Measured:
    """One parameter as an adapter's file has it.

    Attributes:
        residual: Frobenius norm of what is left to the tuned model. At the best factors it is stationary in their
            scale, so that a wrong scale hardly shows.
        size: of the change ``B A``, or of the value that is carried whole.
    """

    residual: float
    size: float


def measured(models: Models, adapter: Path, names: set[str]) -> dict[str, Measured]:
    """How far the adapted base is from the tuned model, and how far it went, read from the files alone.

    Args:
        models: base and tuned.
        adapter: the adapter's folder.
        names: of the parameters to compare.

    Returns:
        ``|W' - (W + Delta)|_F`` and ``|Delta|_F`` of each parameter, as it is read back.

    Raises:
        CheckpointError: an adapter that cannot be read or does not fit the base.

    Cost O(entries); one pair in memory.
    """
    read = {pair.name: pair for pair in open_models(models.base.name, str(adapter)).pairs}
    return {pair.name: _measured(pair, read.get(pair.name)) for pair in models.pairs if pair.name in names}


def _measured(pair: Pair, adapted: Pair | None) -> Measured:
    if adapted is None:  # neither the base nor the adapter has it
        return Measured(_norm(pair.tuned()), 0.0)
    if adapted.load_change is not None and not pair.grown:
        change = adapted.oriented(adapted.load_change())
        return Measured(_norm(pair.difference(), change), _norm(change))
    value = adapted.tuned()
    if value.shape != pair.shape:  # new rows that the adapter does not carry
        value = torch.cat([value, value.new_zeros(pair.shape[0] - value.shape[0], *value.shape[1:])])
    return Measured(_norm(pair.tuned(), value), _norm(value))


def _norm(given: Tensor, taken: Tensor | None = None) -> float:
    """Frobenius norm of the difference, a slice at a time: a product is in float64, and large."""
    given, taken = torch.atleast_1d(given), None if taken is None else torch.atleast_1d(taken)
    height = max(1, _SLICE * len(given) // max(given.numel(), 1))
    parts = given.split(height)
    if taken is not None:
        parts = (part - other.to(part.dtype) for part, other in zip(parts, taken.split(height), strict=True))
    return math.hypot(*(float(torch.linalg.vector_norm(part)) for part in parts))
