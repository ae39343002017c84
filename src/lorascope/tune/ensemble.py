"""Many LoRA runs at once, each with its own rank and rates."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..adaptation import Adaptation, Domain, Sampler
from ..errors import SpecError
from ..theory import Model, check_pair
from .compiled import EngineName
from .engine import Observer, Progress
from .runs import How, run
from .settings import Member, Setting, bias_names, check_counts, check_member, lora_names, source_of

__all__ = ["ensemble"]


def ensemble(
    frozen: Model,
    target: Model,
    members: Sequence[Member],
    steps: int = 5000,
    batch: int = 256,
    generator: torch.Generator | None = None,
    validate_every: int = 1,
    *,
    domain: Domain | None = None,
    samples: Tensor | None = None,
    sampler: Sampler | None = None,
    progress: Progress | None = None,
    observe: Observer | None = None,
    engine: EngineName = "auto",
) -> list[Adaptation[Model]]:
    """Each member is the LoRA run that it would be alone, trained beside the others as one tensor program.

    All see the same batches. A member's start is drawn from its own seed, so it depends on nobody else.

    Args:
        frozen, target: as in :func:`lora`.
        members: rank, rates and seed of each run.
        steps, batch, domain, samples, sampler, validate_every, progress, observe, engine: as in :func:`lora`;
            ``observe`` gets one loss a member.
        generator: of the held-out batch, then of the batches.

    Returns:
        One adaptation a member, in order.

    Raises:
        ShapeError, RankError, SpecError: input that says nothing usable, before any work is done.

    Source: Zeng & Lee 2024, Section 5 ("gradient update"). Cost O(members steps batch width^2) a layer, at the speed of
    matrix products rather than of single calls (``benchmarks/ensemble.py``).

    >>> from lorascope.models import FNN
    >>> frozen, target = FNN(4, 2), FNN(4, 1)
    >>> [a.method for a in ensemble(frozen, target, [Member(1, 1e-2), Member(2, 1e-3)], steps=3)]
    ['adam lora, lr 0.01', 'adam lora, lr 0.001']
    """
    check_pair(frozen, target)
    check_counts(steps, batch, validate_every)
    if not members or not all(isinstance(member, Member) for member in members):
        raise SpecError(f"members must be a list of at least one tune.Member, got {members!r:.200}")
    for member in members:
        check_member(member)
    names, all_biases = lora_names(frozen), tuple(bias_names(frozen))
    settings = [
        Setting(
            member.lr,
            member.weight_decay,
            member.seed,
            dict.fromkeys(names, member.rank),
            biases=all_biases if member.tune_bias else (),
        )
        for member in members
    ]
    how = How(steps, batch, domain, samples, sampler, validate_every, progress, observe, engine)
    return run(frozen, target, settings, "lora", how, source_of(generator))
