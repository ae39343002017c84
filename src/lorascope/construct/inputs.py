"""What a caller may ask for: ranks, partitions, samples; checked before any work is done."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import SupportsIndex

import torch
from torch import Tensor

from ..errors import RankError, ShapeError, SpecError
from ..models import FNN, weight_names
from ..theory import Model, Partition

__all__ = ["Sampler", "check_partition", "check_ranks", "draw_samples"]

Sampler = Callable[[int], Tensor]
SAMPLES = 4096
TOKENS = 10  # of a drawn sequence, as in the paper's experiments


def check_ranks(frozen: Model, rank: int | None, ranks: Mapping[str, int] | None) -> dict[str, int]:
    """Parameter name -> rank allowed, for every adaptable weight.

    Raises:
        RankError: both or neither given; a rank that is negative or no integer; a name the model does not have.
    """
    names = weight_names(frozen)
    if (rank is None) == (ranks is None):
        came = "neither" if rank is None else "both"
        raise RankError(f"give either rank (one number) or ranks (parameter name -> number), got {came}")
    if ranks is None:
        return dict.fromkeys(names, _as_rank("rank", rank))
    unknown = [name for name in ranks if name not in names]
    if unknown:
        raise RankError(f"ranks names {unknown}, which are no weight matrices of the model; it has {names}")
    return {name: _as_rank(name, ranks.get(name, 0)) for name in names}


def check_partition(frozen: Model, target: Model, partition: Sequence[Sequence[int]] | None) -> Partition | None:
    """The partition as tuples, counted from 0.

    Raises:
        ShapeError: not one group of consecutive layers for each target layer, covering all layers in order.
    """
    if partition is None:
        return None
    if not isinstance(frozen, FNN) or frozen.activation == "identity":
        raise ShapeError("partition is for ReLU networks: other models have nothing to divide")
    nested = all(isinstance(group, Sequence) for group in partition)
    groups = tuple(tuple(group) for group in partition) if nested else ()
    flat = [layer for group in groups for layer in group]
    if len(groups) != target.depth or any(not group for group in groups) or flat != list(range(frozen.depth)):
        came = [list(group) for group in groups] if nested else list(partition)
        raise ShapeError(
            f"partition must be {target.depth} groups of consecutive layers, together 0 to {frozen.depth - 1}, "
            f"got {came}"
        )
    return groups


def draw_samples(
    shape: tuple[int, ...],
    samples: Tensor | None,
    sampler: Sampler | None,
    generator: torch.Generator | None,
    like: Tensor,
) -> Tensor:
    """Inputs that stand for the distribution: those given, or 4096 from ``sampler``, or 4096 draws of N(0, I).

    Args:
        shape: of one input; a negative length stands for any.
        samples, sampler, generator: as in :func:`.stable.stable`.
        like: sets the device.

    Raises:
        SpecError: both given, no sample, or samples that are not finite.
        ShapeError: samples of another width.
    """
    if samples is not None and sampler is not None:
        raise SpecError("give samples (a tensor) or sampler (a function of the number wanted), got both")
    if sampler is not None:
        samples = sampler(SAMPLES)
    if samples is None:
        source = generator or torch.Generator().manual_seed(0)
        device = source.device
        size = [TOKENS if length < 0 else length for length in shape]
        return torch.randn(SAMPLES, *size, dtype=torch.float64, generator=source, device=device).to(like.device)
    fits = samples.ndim == len(shape) + 1
    if not fits or any(0 <= length != came for length, came in zip(shape, samples.shape[1:], strict=True)):
        wanted = ", ".join("tokens" if length < 0 else str(length) for length in shape)
        raise ShapeError(f"samples must be (number, {wanted}), got {tuple(samples.shape)}")
    if samples.numel() == 0 or not torch.isfinite(samples).all():
        raise SpecError(f"samples must be finite and at least one, got shape {tuple(samples.shape)}")
    return samples.detach().to(like.device, torch.float64)


def _as_rank(name: str, value: object) -> int:
    try:
        if isinstance(value, bool) or not isinstance(value, SupportsIndex):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise RankError(f"{name} must be an integer of at least 0, got {value!r}") from None
    if number < 0:
        raise RankError(f"{name} must be an integer of at least 0, got {number}")
    return number
