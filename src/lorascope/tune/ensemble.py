"""Many LoRA runs at once, each with its own rank and rates."""

from collections.abc import Sequence
from typing import Unpack

import torch

from ..adaptation import Adaptation
from ..errors import SpecError
from ..theory import Model, check_pair
from .keywords import How, Keywords, showing
from .runs import run
from .settings import Member, Setting, bias_names, check_member, check_start, lora_names

__all__ = ["ensemble"]


@showing(Keywords)
def ensemble(
    frozen: Model,
    target: Model,
    members: Sequence[Member],
    steps: int = 5000,
    batch: int = 256,
    generator: torch.Generator | None = None,
    validate_every: int = 1,
    **how: Unpack[Keywords],
) -> list[Adaptation[Model]]:
    """Each member is the LoRA run that it would be alone, trained beside the others as one tensor program.

    All see the same batches. A member's start is drawn from its own seed, so it depends on nobody else.

    Args:
        frozen, target: as in :func:`lora`.
        members: rank, rates and seed of each run.
        steps, batch, validate_every, and all that ``how`` has: as in :func:`lora`; ``observe`` gets one loss a member.
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
    common = How(steps, batch, generator, validate_every, **how)
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
            lr_ratio=member.lr_ratio,
            start=member.start,
        )
        for member in members
    ]
    for setting in settings:
        check_start(frozen, setting)
    return run(frozen, target, settings, "lora", common)
