"""The best adapters at a rank that is too small for exactness."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic, perf_counter

import torch
from torch import Tensor

from ..adaptation import Adaptation, Ball, Certificate, Domain, bound_networks
from ..errors import RankError, SpecError
from ..models import FNN, TransformerNetwork
from ..theory import Model, Partition, check_pair, find_partition, matches_for
from .inputs import Sampler, check_partition, check_ranks, draw_samples
from .refine import InputSource, ProfileName, RefinedFNN, input_source, profile_named, refine_fnn, refine_linear
from .stable import stable
from .threads import threads_for

__all__ = ["refined", "refined_path"]

Progress = Callable[[float, str], None]
TOKENS = 10  # of a drawn sequence, as in the paper's experiments


def refined(
    frozen: Model,
    target: Model,
    rank: int | None = None,
    *,
    ranks: Mapping[str, int] | None = None,
    partition: Sequence[Sequence[int]] | None = None,
    domain: Domain | None = None,
    samples: Tensor | None = None,
    sampler: Sampler | None = None,
    seconds: float = 30,
    generator: torch.Generator | None = None,
    profile: ProfileName = "full",
    progress: Progress | None = None,
) -> Adaptation[Model]:
    """Adapters of rank at most ``rank`` of the least ``E |f - target|^2`` that can be found in ``seconds``.

    Linear networks: the optimum, in closed form. ReLU networks and transformers: from closed-form starts, refined on
    inputs, chosen on others, and written as adapters. Where the ranks suffice for exactness it is :func:`stable`.

    Args:
        frozen, target, rank, ranks, partition, domain: as :func:`stable`. The domain sets biases and bound only.
        samples: (number, inputs) or (number, tokens, inputs): the input distribution; one in four is kept apart to
            choose by.
        sampler: instead of ``samples``: number -> so many fresh inputs. Neither: N(0, I).
        seconds: wall time; 0 is the closed form alone (truncation weighted by the inputs' covariance).
        generator: of all draws; default seed 0.
        profile: "full", or "fast" for about a third of the work.
        progress: called with the share done and what is being done.

    Returns:
        The adaptation. ``certificate.conditions`` has the mean squared error on the inputs it was chosen by.

    Raises:
        ShapeError, RankError, SpecError: input that says nothing usable, before any work is done; a sampler whose
            inputs change shape or are not finite, when it does so.

    Source: new; Zeng & Lee 2024 leave ranks below the threshold to gradient descent.

    >>> frozen, target = FNN(4, 2), FNN(4, 1)
    >>> refined(frozen, target, 1, seconds=0).method.startswith("refined")
    True
    """
    job = _job(frozen, target, partition, domain, samples, sampler, seconds, generator, profile)
    return _refine(job, check_ranks(frozen, rank, ranks), None, progress)[0]


def refined_path(
    frozen: Model,
    target: Model,
    ranks: Sequence[int],
    *,
    partition: Sequence[Sequence[int]] | None = None,
    domain: Domain | None = None,
    samples: Tensor | None = None,
    sampler: Sampler | None = None,
    seconds: float = 30,
    generator: torch.Generator | None = None,
    profile: ProfileName = "full",
    progress: Progress | None = None,
) -> list[Adaptation[Model]]:
    """One adaptation a rank, in the order given; with more rank never worse on the inputs they are chosen by.

    Every rank also starts from the solution of the one before, and falls back on it where nothing better is found.

    Args:
        ranks: caps of every adapter.
        frozen, target, partition, domain, samples, sampler, generator, profile, progress: as :func:`refined`.
        seconds: for each rank.

    Raises:
        RankError: no rank, or one that is no integer of at least 0.
        ShapeError, SpecError: as :func:`refined`.

    >>> frozen, target = FNN(4, 2), FNN(4, 1)
    >>> [a.certificate.exact for a in refined_path(frozen, target, [1, 2], seconds=0)]
    [False, True]
    """
    if not ranks:
        raise RankError("ranks must name at least one rank, got none")
    allowed = {rank: check_ranks(frozen, rank, None) for rank in ranks}
    job = _job(frozen, target, partition, domain, samples, sampler, seconds, generator, profile)
    found: dict[int, tuple[Adaptation[Model], RefinedFNN | None]] = {}
    lower: tuple[Adaptation[Model], RefinedFNN | None] | None = None
    for index, rank in enumerate(sorted(allowed)):

        def say(share: float, what: str, index: int = index, rank: int = rank) -> None:
            if progress is not None:
                progress((index + share) / len(allowed), f"rank {rank}: {what}")

        found[rank] = lower = _refine(job, allowed[rank], lower, say)
    return [found[rank][0] for rank in ranks]


@dataclass(frozen=True)
class _Job:
    """What is the same for every rank."""

    frozen: Model
    target: Model
    partition: Partition | None
    domain: Domain
    source: InputSource
    samples: Tensor
    seconds: float
    generator: torch.Generator
    profile: ProfileName


@dataclass(frozen=True)
class _Found:
    """An adaptation, with what a refinement of more rank starts from."""

    adaptation: Adaptation[Model]
    loss: float
    network: RefinedFNN | None = None


def _job(
    frozen: Model,
    target: Model,
    partition: Sequence[Sequence[int]] | None,
    domain: Domain | None,
    samples: Tensor | None,
    sampler: Sampler | None,
    seconds: float,
    generator: torch.Generator | None,
    profile: ProfileName,
) -> _Job:
    """Every fault of the input is found here, before any work is done."""
    check_pair(frozen, target)
    profile_named(profile)
    if not seconds >= 0:
        raise SpecError(f"seconds must be at least 0 (0 is the closed form alone), got {seconds!r}")
    groups = check_partition(frozen, target, partition)
    like = next(iter(frozen.parameters())).detach()
    source_of = generator or torch.Generator().manual_seed(0)
    if isinstance(target, FNN):
        shape: tuple[int, ...] = (target.linears[0].weight.shape[1],)
        width = frozen.width if isinstance(frozen, FNN) else 0
    else:
        shape, width = (-1, target.embed_dim), target.embed_dim
    drawn = draw_samples(shape, samples, sampler, source_of, like)
    source = input_source(tuple(drawn.shape[1:]), samples, sampler, source_of, like.device)
    place = Ball(6 * width**0.5) if domain is None else domain
    region_of(place, width, shape[-1], like)
    return _Job(frozen, target, groups, place, source, drawn, seconds, source_of, profile)


def _refine(
    job: _Job, ranks: Mapping[str, int], lower: _Found | None, progress: Progress | None
) -> _Found:
    """One rank: exact where it can be, refined where it cannot; never worse than ``lower``."""
    started = perf_counter()
    if isinstance(job.frozen, FNN) and isinstance(job.target, FNN):
        with threads_for(job.frozen.width):
            found = _refine_fnn(job, job.frozen, job.target, ranks, lower, progress)
    else:
        found = _refine_transformer(job, ranks, lower, progress)
    if lower is not None and lower.loss < found.loss:
        found = lower
    return replace(found, adaptation=replace(found.adaptation, seconds=perf_counter() - started))


def _exact(job: _Job, ranks: Mapping[str, int], partition: Partition | None) -> _Found | None:
    """The exact adaptation, where these ranks suffice for one."""
    matches = matches_for(job.frozen, job.target, partition)
    if not all(match.closed_by(tuple(ranks[name] for name in match.names)) for match in matches):
        return None
    adaptation = stable(
        job.frozen,
        job.target,
        ranks=ranks,
        partition=None if job.frozen.activation == "identity" else partition,
        domain=job.domain,
        samples=job.samples,
        seconds=job.seconds,
    )
    return _Found(adaptation, _loss(adaptation.model, job))
