"""What a model sends into each of its matrices, and how its output feels what comes out of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..shapes import Float
from .passes import Inputs, Seen, run_back

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Moments", "measure_moments", "moment_bytes"]

FULL = 16384
"""Sides up to which the whole second moment is kept; beyond, its diagonal."""


@dataclass(frozen=True)
class Moments:
    """Second moments on both sides of one matrix ``W`` (out, inp), over all unpadded positions of the texts.

    A side is a matrix, or a vector that stands for its diagonal.

    Attributes:
        left: ``E[g g^T]`` of the gradients at the outputs; of an embedding how often each token
            comes.
        right: ``E[x x^T]`` of the inputs; of an embedding that of the gradients.
        mean: ``E[x]``; None of an embedding.
        rows: positions a text, on average.
    """

    left: Float[Tensor, "..."]
    right: Float[Tensor, "..."]
    mean: Float[Tensor, " inp"] | None
    rows: float


@dataclass
class _Sums:
    left: Tensor
    right: Tensor
    mean: Tensor | None
    rows: int = 0


def moment_bytes(shape: Sequence[int]) -> int:
    """Memory that a matrix's moments take, in bytes."""
    return 8 * sum(side * side if side <= FULL else side for side in shape)


def measure_moments(
    model: "PreTrainedModel",
    modules: Sequence[str],
    batches: Sequence[Inputs],
    generator: torch.Generator,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Moments]:
    """Run texts through a model and back; the parameters stay as they are.

    ``F = E[g g^T]``, ``C = E[x x^T]``: to second order, and as if both were independent, a change ``D`` of the matrix
    moves the model's output distribution by ``KL = rows / 2 tr(F D C D^T)`` a text.

    Args:
        model: in evaluation mode; its parameters need no gradient and get none.
        modules: names of Linear, Conv1D and Embedding modules.
        batches: tokens, with an attention mask where they are padded.
        generator: draws outputs from the model's own distribution, where it has too many for all of them.
        progress: called with the share done.

    Returns:
        By the modules' names; only those that the texts passed through.

    Raises:
        CheckpointError: a model whose output is neither logits nor hidden states.

    Source: Martens & Grosse 2015 (K-FAC), the true Fisher matrix rather than the empirical one. Cost: a forward and a
    backward pass, and O(out^2 + inp^2) a position and matrix.
    """
    sums: dict[str, _Sums] = {}
    texts = 0
    model.requires_grad_(requires_grad=False)
    for index, batch in enumerate(batches):
        run_back(model, modules, batch, generator, lambda seen: _add(sums, seen))
        texts += next(iter(batch.values())).shape[0]
        if progress is not None:
            progress((index + 1) / len(batches))
    return {name: _moments(found, texts) for name, found in sums.items()}


def _add(sums: dict[str, _Sums], seen: Seen) -> None:
    found = sums.setdefault(seen.name, _empty(seen.module, seen.given, seen.gradient))
    if seen.direction == 0:
        _add_inputs(found, seen)
    gradients = found.right if isinstance(seen.module, nn.Embedding) else found.left
    _add_squares(gradients, seen.unpadded(seen.gradient, 1))


def _empty(module: nn.Module, given: Tensor, gradient: Tensor) -> _Sums:
    def square(side: int) -> Tensor:
        return torch.zeros(side, side if side <= FULL else 1, dtype=torch.float64, device=gradient.device).squeeze(-1)

    if isinstance(module, nn.Embedding):
        counts = torch.zeros(module.num_embeddings, dtype=torch.float64, device=gradient.device)
        return _Sums(counts, square(gradient.shape[-1]), None)
    mean = torch.zeros(given.shape[-1], dtype=torch.float64, device=gradient.device)
    return _Sums(square(gradient.shape[-1]), square(given.shape[-1]), mean)


def _add_inputs(found: _Sums, seen: Seen) -> None:
    if isinstance(seen.module, nn.Embedding):
        ids = seen.unpadded(seen.given, 0)
        found.left += torch.bincount(ids.flatten(), minlength=len(found.left))
        found.rows += ids.numel()
        return
    rows = seen.unpadded(seen.given, 1)
    found.rows += len(rows)
    assert found.mean is not None
    found.mean += rows.sum(dim=0, dtype=torch.float64)
    _add_squares(found.right, rows)


def _add_squares(total: Tensor, rows: Tensor) -> None:
    # products of one batch in the model's precision, their sum in float64
    total += (rows.T @ rows) if total.dim() == 2 else rows.square().sum(dim=0)


def _moments(found: _Sums, texts: int) -> Moments:
    mean = None if found.mean is None else found.mean / found.rows
    return Moments(found.left / found.rows, found.right / found.rows, mean, found.rows / texts)
