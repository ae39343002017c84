"""The best adapters at a rank that is too small for exactness."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..adaptation import Adaptation, Domain, Sampler, check_ranks
from ..errors import RankError
from ..theory import Model
from .refine import Found, ProfileName, Progress, job_for, refine

__all__ = ["refined", "refined_path"]


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

    Linear networks: the optimum, in closed form. ReLU networks and the paper's transformers: from closed-form starts,
    refined on inputs, chosen on others, and written as adapters. Transformers of other forms (skips, normalisations,
    biases, other head or hidden sizes) get the closed form alone, and ``conditions`` says so. Where the ranks suffice
    for exactness it is :func:`stable`.

    Args:
        frozen, target, rank, ranks, partition, domain: as :func:`stable`. The domain sets biases and bound only.
        samples: (number, inputs) or (number, tokens, inputs): the input distribution; one in four is kept apart to
            choose by, but for linear networks, where there is nothing to choose.
        sampler: instead of ``samples``: number -> so many fresh inputs, or another number of them. Neither: N(0, I).
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

    >>> from lorascope.models import FNN
    >>> frozen, target = FNN(4, 2), FNN(4, 1)
    >>> refined(frozen, target, 1, seconds=0).method.startswith("refined")
    True
    """
    job = job_for(frozen, target, partition, domain, samples, sampler, seconds, generator, profile)
    return refine(job, check_ranks(frozen, rank, ranks), None, progress).adaptation


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
    """One adaptation a rank, in the order given; with more rank never worse on the inputs they are chosen by, or exact.

    Every rank also starts from the solution of the one before, and falls back on it where nothing better is found.

    Args:
        ranks: caps of every adapter.
        frozen, target, partition, domain, samples, sampler, generator, profile, progress: as :func:`refined`.
        seconds: for each rank.

    Raises:
        RankError: no rank, or one that is no integer of at least 0.
        ShapeError, SpecError: as :func:`refined`.

    >>> from lorascope.models import FNN
    >>> frozen, target = FNN(4, 2), FNN(4, 1)
    >>> [a.certificate.exact for a in refined_path(frozen, target, [1, 2], seconds=0)]
    [False, True]
    """
    if not ranks:
        raise RankError("ranks must name at least one rank, got none")
    allowed = {rank: check_ranks(frozen, rank, None) for rank in ranks}
    job = job_for(frozen, target, partition, domain, samples, sampler, seconds, generator, profile)
    found: dict[int, Found] = {}
    lower: Found | None = None
    for index, rank in enumerate(sorted(allowed)):

        def say(share: float, what: str, index: int = index, rank: int = rank) -> None:
            if progress is not None:
                progress((index + share) / len(allowed), f"rank {rank}: {what}")

        found[rank] = lower = refine(job, allowed[rank], lower, say)
    return [found[rank].adaptation for rank in ranks]
