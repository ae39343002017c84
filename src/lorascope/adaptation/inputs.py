"""What a caller may ask of any method: ranks and samples; checked before any work is done."""

import operator
from collections.abc import Callable, Mapping
from typing import SupportsIndex

import torch
from torch import Tensor

from ..errors import RankError, ShapeError, SpecError
from ..models import weight_names
from ..theory import Model

__all__ = ["TOKENS", "Sampler", "check_ranks", "check_samples", "check_seconds", "draw_samples"]

Sampler = Callable[[int], Tensor]
SAMPLES = 4096
SEQUENCES = 512  # likewise of tokens
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


def check_seconds(seconds: float) -> None:
    """Raise unless it is a time.

    Raises:
        SpecError: negative, or no number.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise SpecError(f"seconds must be a number of at least 0 (0 is the closed form alone), got {seconds!r}")


def draw_samples(
    shape: tuple[int, ...],
    samples: Tensor | None,
    sampler: Sampler | None,
    generator: torch.Generator | None,
    like: Tensor,
) -> Tensor:
    """Inputs that stand for the distribution: those given, or 4096 from ``sampler`` or of N(0, I).

    Sequences, whose length is free, are 512, of 10 tokens where they are drawn here.

    Args:
        shape: of one input; a negative length stands for any.
        samples: (number, *shape).
        sampler: instead of ``samples``: number -> samples.
        generator: of the draws; default one of seed 0.
        like: sets the device.

    Raises:
        SpecError: both given, no sample, or samples that are not finite.
        ShapeError: samples of another width.
    """
    if samples is not None and sampler is not None:
        raise SpecError("give samples (a tensor) or sampler (a function of the number wanted), got both")
    count = SEQUENCES if min(shape) < 0 else SAMPLES
    if sampler is not None:
        samples = sampler(count)
    if samples is None:
        source = generator or torch.Generator().manual_seed(0)
        device = source.device
        size = [TOKENS if length < 0 else length for length in shape]
        return torch.randn(count, *size, dtype=torch.float64, generator=source, device=device).to(like.device)
    return check_samples(samples, shape).to(like.device, torch.float64)


def check_samples(samples: Tensor, shape: tuple[int, ...], name: str = "samples") -> Tensor:
    """The samples, detached; ``name`` is what a message calls them.

    Raises:
        SpecError: no sample, or samples that are not finite.
        ShapeError: samples of another width.
    """
    if not isinstance(samples, Tensor):
        raise SpecError(f"{name} must be a tensor, got {type(samples).__name__}; torch.as_tensor makes one")
    fits = samples.ndim == len(shape) + 1
    if not fits or any(0 <= length != came for length, came in zip(shape, samples.shape[1:], strict=True)):
        wanted = ", ".join("tokens" if length < 0 else str(length) for length in shape)
        raise ShapeError(f"{name} must be (number, {wanted}), got {tuple(samples.shape)}")
    if samples.numel() == 0 or not torch.isfinite(samples).all():
        raise SpecError(f"{name} must be finite and at least one, got shape {tuple(samples.shape)}")
    return samples.detach()


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
