"""Rounds of Adam on the corrections of many members at once: many short runs, then few long ones."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Literal

import torch
from torch import Tensor

from ...optim import adam, by_autograd, cosine
from ...shapes import Float
from .transformer_products import Effective, Softmax, forward, gather, layerwise_error, squared_error
from .transformer_space import Corrections, ProductSpace
from .transformer_starts import stack

__all__ = ["Candidate", "Round", "Stage", "refine", "train"]

Draw = Callable[[int], Float[Tensor, "batch seq width"]]
# Share of the steps after which annealed scores are what they are.
ANNEALED = 0.8
# Steps that tell how long a step takes.
TRIAL = 3


@dataclass(frozen=True)
class Stage:
    """One run of Adam.

    Attributes:
        steps: how many.
        batch: fresh sequences a step.
        rates: learning rates; every candidate that enters is run at each.
        attention: "plain"; "anneal", scores multiplied by a factor that rises to 1; "straight", see
            :func:`.transformer_products.straight_through`.
        scales: factor on the scores of the first block and of the others: at the start ("anneal"), or in the
            derivative ("straight").
        layerwise: every block is compared with the target's, given the target's hidden values of the block before.
        slow: factor on the rates of all blocks but the first.
        floor: of the cosine schedule, relative to the rate.
        decay: of Adam's second moment.
    """

    steps: int
    batch: int
    rates: tuple[float, ...]
    attention: Literal["plain", "anneal", "straight"] = "plain"
    scales: tuple[float, float] = (1.0, 1.0)
    layerwise: bool = False
    slow: float = 1.0
    floor: float = 0.01
    decay: float = 0.99

    def softmax(self, depth: int, share: float) -> list[Softmax]:
        """How each block's attention is computed after a share of the steps."""
        scales = [self.scales[0], *[self.scales[1]] * (depth - 1)]
        if self.attention == "plain":
            return [Softmax()] * depth
        if self.attention == "straight":
            return [Softmax(scale, straight=True) for scale in scales]
        return [Softmax(scale ** max(0.0, 1 - share / ANNEALED)) for scale in scales]


@dataclass(frozen=True)
class Round:
    """The ``keep`` best candidates go through every stage; what comes out joins what went in."""

    keep: int
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Candidate:
    """Corrections (one member), the target they were made for, how they came about, and their error to choose by."""

    corrections: Corrections
    target: Effective
    history: str
    error: float = math.inf


def refine(
    space: ProductSpace,
    candidates: Sequence[Candidate],
    rounds: Sequence[Round],
    draw: Draw,
    validation: Float[Tensor, "samples seq width"],
    *,
    deadline: float = math.inf,
    progress: Callable[[float, str], None] | None = None,
) -> list[Candidate]:
    """All rounds, one after another; the candidates that remain, best first.

    Where the deadline is too near for all steps, all stages that are left are shortened alike.

    Args:
        space, candidates, validation: in float32.
        rounds: the schedule.
        draw: number -> training sequences.
        deadline: of :func:`time.monotonic`.
        progress: called with the share of the work done and the stage's name.
    """
    pool = _judged(space, candidates, validation)
    counts = _members(len(pool), rounds)
    costs = [
        [stage.steps * stage.batch * count * len(stage.rates) for stage in one.stages]
        for one, count in zip(rounds, counts, strict=True)
    ]
    left = total = sum(sum(cost) for cost in costs)
    for one, cost in zip(rounds, costs, strict=True):
        entered, found = pool[: one.keep], []
        for stage, work in zip(one.stages, cost, strict=True):
            if progress is not None:
                progress(1 - left / total, stage.attention)
            share = _affordable(space, entered, stage, draw, left, deadline)
            if share > 0:
                shorter = replace(stage, steps=max(1, int(stage.steps * share)))
                found += _run(space, entered, shorter, draw, deadline)
            left -= work
        pool = sorted([*entered, *_judged(space, found, validation)], key=lambda candidate: candidate.error)
    return pool


def _members(pool: int, rounds: Sequence[Round]) -> list[int]:
    counts = []
    for one in rounds:
        counts.append(min(pool, one.keep))
        pool = counts[-1] * (1 + sum(len(stage.rates) for stage in one.stages))
    return counts


def _affordable(
    space: ProductSpace, entered: Sequence[Candidate], stage: Stage, draw: Draw, left: int, deadline: float
) -> float:
    """Share of the work left that time allows, at most 1."""
    if deadline == math.inf:
        return 1.0
    started = monotonic()
    if started > deadline:
        return 0.0
    _run(space, entered, replace(stage, steps=TRIAL), draw, deadline)
    ended = monotonic()
    pace = (ended - started) / (TRIAL * stage.batch * len(entered) * len(stage.rates))
    return min(1.0, max(0.0, deadline - ended) / (pace * left))


def _run(
    space: ProductSpace, entered: Sequence[Candidate], stage: Stage, draw: Draw, deadline: float
) -> list[Candidate]:
    """Every candidate at every rate."""
    members = stack([one.corrections for _ in stage.rates for one in entered])
    target = gather([one.target for _ in stage.rates for one in entered]) if stage.layerwise else entered[0].target
    rates = [rate for rate in stage.rates for _ in entered]
    found = train(space, target, members, draw, stage, rates, deadline=deadline)
    name = "layerwise" if stage.layerwise else stage.attention
    return [
        Candidate({key: value[index : index + 1] for key, value in found.items()}, one.target, f"{one.history}, {name}")
        for index, one in enumerate([one for _ in stage.rates for one in entered])
    ]


def _judged(
    space: ProductSpace, candidates: Sequence[Candidate], validation: Float[Tensor, "samples seq width"]
) -> list[Candidate]:
    """With their errors, best first; what is no number counts as infinite."""
    done = []
    for one in candidates:
        error = float(squared_error(space.compose(one.corrections), one.target, validation))
        done.append(replace(one, error=error if math.isfinite(error) else math.inf))
    return sorted(done, key=lambda candidate: candidate.error)


def train(
    space: ProductSpace,
    target: Effective,
    members: Corrections,
    draw: Draw,
    stage: Stage,
    rates: Sequence[float],
    *,
    deadline: float = math.inf,
) -> Corrections:
    """Corrections after one stage.

    Args:
        space: in the dtype of ``members``.
        target: one member, or one for each of ``members``.
        members: left as they are.
        draw: number -> training sequences.
        stage: what to do.
        rates: of each member.
        deadline: of :func:`time.monotonic`; steps end there.
    """
    names, like = list(members), space.final

    def loss(step: int, values: Sequence[Tensor]) -> Tensor:
        inputs = draw(stage.batch).to(like)
        networks = space.compose(dict(zip(names, values, strict=True)))
        softmax = stage.softmax(space.depth, step / stage.steps)
        if stage.layerwise:
            return layerwise_error(networks, target, inputs, softmax)
        with torch.no_grad():
            wanted = forward(target, inputs)
        return (forward(networks, inputs, softmax) - wanted).square().mean((1, 2, 3))

    values = adam(
        by_autograd(loss),
        list(members.values()),
        stage.steps,
        torch.tensor(rates, dtype=like.dtype, device=like.device),
        schedule=cosine(stage.floor),
        betas=(0.9, stage.decay),
        multipliers=[1.0 if space.depth == 1 or _of_first_block(name) else stage.slow for name in names],
        deadline=deadline,
    )
    return dict(zip(names, values, strict=True))


def _of_first_block(name: str) -> bool:
    # what block 0 hands on is part of the next block's products
    return name.startswith("0.") and not name.startswith("0.ffn_out")
