"""An adapter's file against the two models it stands between, matrix by matrix."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .pairs import Models, Pair, open_models

__all__ = ["residuals"]


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
    return {
        pair.name: float(torch.linalg.vector_norm(_rest(pair, read), dtype=torch.float64))
        for pair in models.pairs
        if pair.name in names
    }


def _rest(pair: Pair, read: Mapping[str, Pair]) -> Tensor:
    adapted = read.get(pair.name)
    if adapted is None:  # neither the base nor the adapter has it
        return pair.tuned()
    if adapted.load_change is not None and not pair.grown:
        return pair.difference().sub_(adapted.difference())
    value = adapted.tuned()
    if value.shape != pair.shape:  # new rows that the adapter does not carry
        value = torch.cat([value, value.new_zeros(pair.shape[0] - value.shape[0], *value.shape[1:])])
    return pair.tuned().sub_(value)
