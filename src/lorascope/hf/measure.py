"""An adapter's file against the two models it stands between, matrix by matrix."""

import math
from pathlib import Path

import torch
from torch import Tensor

from .pairs import Models, Pair, open_models

__all__ = ["residuals"]

_SLICE = 1 << 18  # entries at a time


def residuals(models: Models, adapter: Path, names: set[str]) -> dict[str, float]:
    """How far the adapted base is from the tuned model, read from the files alone.

    Args:
        models: base and tuned.
        adapter: the adapter's folder.
        names: of the parameters to compare.

    Returns:
        ``|W' - (W + Delta)|_F`` of each parameter, as it is read back.

    Raises:
        CheckpointError: an adapter that cannot be read or does not fit the base.

    Cost O(entries); one pair in memory.
    """
    read = {pair.name: pair for pair in open_models(models.base.name, str(adapter)).pairs}
    return {pair.name: _distance(pair, read.get(pair.name)) for pair in models.pairs if pair.name in names}


def _distance(pair: Pair, adapted: Pair | None) -> float:
    if adapted is None:  # neither the base nor the adapter has it
        return _norm(pair.tuned())
    if adapted.load_change is not None and not pair.grown:
        return _norm(pair.difference(), adapted.oriented(adapted.load_change()))
    value = adapted.tuned()
    if value.shape != pair.shape:  # new rows that the adapter does not carry
        value = torch.cat([value, value.new_zeros(pair.shape[0] - value.shape[0], *value.shape[1:])])
    return _norm(pair.tuned(), value)


def _norm(given: Tensor, taken: Tensor | None = None) -> float:
    """Frobenius norm of the difference, a slice at a time: a product is in float64, and large."""
    given, taken = torch.atleast_1d(given), None if taken is None else torch.atleast_1d(taken)
    height = max(1, _SLICE * len(given) // max(given.numel(), 1))
    parts = given.split(height)
    if taken is not None:
        parts = (part - other.to(part.dtype) for part, other in zip(parts, taken.split(height), strict=True))
    return math.hypot(*(float(torch.linalg.vector_norm(part)) for part in parts))
