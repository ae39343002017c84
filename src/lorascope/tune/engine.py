"""Gradient steps for many runs at once."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..optim import Adam
from ..shapes import Float
from .batches import Batch, Batches
from .checkpoint import Checkpoint, Reached

__all__ = ["Chunk", "Objective", "Observer", "Progress", "TorchChunk", "train"]

Progress = Callable[[float, str], None]
Observer = Callable[[int, Tensor], None]
# Steps that a chunk of members makes before the next one has its turn: long enough for a chunk to stay in the cache.
BLOCK = 32


@runtime_checkable
class Objective(Protocol):
    """Losses and gradients of a chunk of members, as :meth:`lorascope.optim.LayeredGradient.visit` has them."""

    def visit(
        self,
        parameters: Sequence[Tensor],
        batch: Batch | None,
        validation: Batch | None = None,
        *,
        losses: bool = True,
        into: Sequence[Tensor] | None = None,
    ) -> tuple[Float[Tensor, " members"], Float[Tensor, " members"]]: ...


@runtime_checkable
class Chunk(Protocol):
    """Members that are worked on together, whatever computes their steps.

    Attributes:
        engine: the name of what computes them.
        members: their places among all members.
        best: lowest validation loss of each so far.
        kept: the parameters that had it, as :meth:`.Layout.start` orders them.
    """

    @property
    def engine(self) -> str: ...

    @property
    def members(self) -> list[int]: ...

    @property
    def best(self) -> Float[Tensor, " members"]: ...

    @property
    def kept(self) -> list[Tensor]: ...

    def advance(
        self, block: Sequence[Batch], start: int, checked: Sequence[int], held_out: Batch
    ) -> Float[Tensor, "checked members"]:
        """A step on each batch of the block; the losses on ``held_out`` before the steps that are ``checked``.

        Args:
            block: batches.
            start: the step that the first of them is for.
            checked: steps of the block.
            held_out: the batch to validate on.
        """
        ...

    def finish(self, held_out: Batch) -> Float[Tensor, " members"]:
        """The losses on ``held_out`` after the last step, which count for the best as those before."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything that changes from step to step, as copies; for a chunk of the same engine and members."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state that such a chunk gave."""
        ...


@dataclass
class TorchChunk:
    """A chunk whose steps are torch's operators on tensors with a members axis.

    Attributes:
        members, best, kept: as in :class:`Chunk`.
        objective: what they minimise.
        adam: their parameters and the optimiser's state.
    """

    members: list[int]
    objective: Objective
    adam: Adam
    best: Float[Tensor, " members"]
    kept: list[Tensor]
    engine: str = "torch"

    @classmethod
    def of(
        cls,
        members: list[int],
        objective: Objective,
        start: list[Tensor],
        rates: list[float],
        decays: list[float],
        multipliers: list[float] | None = None,
        decoupled: bool = False,
    ) -> "TorchChunk":
        like = start[0]
        adam = Adam(
            start,
            torch.tensor(rates, dtype=torch.float64, device=like.device),
            weight_decay=torch.tensor(decays, dtype=torch.float64, device=like.device),
            multipliers=multipliers,
            decoupled=decoupled,
        )
        return cls(members, objective, adam, like.new_full((len(members),), math.inf), [p.clone() for p in start])

    def advance(
        self, block: Sequence[Batch], start: int, checked: Sequence[int], held_out: Batch
    ) -> Float[Tensor, "checked members"]:
        adam = self.adam
        # copying the whole state each time and looking for the best once a block costs less than looking each time
        trail = adam.flat.new_empty(len(checked), len(adam.flat))
        losses: list[Tensor] = []
        for step, batch in enumerate(block, start):
            validate = step in checked
            if validate:
                trail[len(losses)] = adam.flat
            _, found = self.objective.visit(
                adam.parameters, batch, held_out if validate else None, losses=False, into=adam.gradients
            )
            adam.step(adam.gradients)
            if validate:
                losses.append(found)
        if not losses:
            return adam.flat.new_empty(0, len(self.members))
        stacked = torch.stack(losses)
        _keep(self, stacked, trail)
        return stacked

    def finish(self, held_out: Batch) -> Float[Tensor, " members"]:
        _, found = self.objective.visit(self.adam.parameters, None, held_out)
        _keep(self, found[None], self.adam.flat[None])
        return found

    def state(self) -> dict[str, Tensor]:
        kept = {f"kept.{index}": value.clone() for index, value in enumerate(self.kept)}
        return self.adam.state() | kept | {"best": self.best.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.adam.restore(state)
        self.best = state["best"].to(self.best)
        self.kept = [state[f"kept.{index}"].to(value) for index, value in enumerate(self.kept)]


def train(
    chunks: Sequence[Chunk],
    batches: Batches,
    steps: int,
    validate_every: int,
    losses: Float[Tensor, " members"],
    progress: Progress | None,
    observe: Observer | None,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Adam on every member, all on the same batches; each keeps the parameters of its lowest validation loss.

    Validation takes place before every ``validate_every``-th step and after the last; 0: after the last alone, and the
    last parameters are kept unless they are not finite.

    Args:
        chunks: of members.
        batches: for all of them.
        steps, validate_every, progress, observe: as in :func:`.lora`.
        losses: of all members before any step; those of members in no chunk stay as they are.
        checkpoint: of this run, to go on from and to write to.
    """
    number = len(losses)
    reached = Reached() if checkpoint is None else checkpoint.load([batches, *chunks])
    watch = _nobody if observe is None else observe
    for look, row in enumerate(row for rows in reached.seen for row in rows):
        watch(look * validate_every, row)
    for start in range(reached.step, steps, BLOCK):
        block = batches.draw(min(BLOCK, steps - start))
        checked = [step for step in range(start, start + len(block)) if validate_every and step % validate_every == 0]
        seen = losses.to(block[0][0]).repeat(len(checked), 1)
        for chunk in chunks:
            seen[:, chunk.members] = chunk.advance(block, start, checked, batches.validation)
        for step, row in zip(checked, seen, strict=True):
            watch(step, row)
        if checkpoint is not None:
            reached = Reached(start + len(block), reached.seen if observe is None else [*reached.seen, seen])
            checkpoint.save(reached, [batches, *chunks])
        if progress is not None:
            progress(min(start + BLOCK, steps) / steps, f"{number} runs, step {min(start + BLOCK, steps)} of {steps}")
    last = losses.to(batches.validation[0]).clone()
    for chunk in chunks:
        last[chunk.members] = chunk.finish(batches.validation)
    watch(steps, last)


def _nobody(_step: int, _losses: Tensor) -> None:
    """What watches where nobody does."""


def _keep(chunk: TorchChunk, losses: Float[Tensor, "checked members"], trail: Float[Tensor, "checked size"]) -> None:
    """Keep each member's best of a trail of states, where it is better than what is kept."""
    lowest, where = torch.where(losses.isfinite(), losses, math.inf).min(dim=0)
    better = lowest < chunk.best
    chunk.best = torch.where(better, lowest, chunk.best)
    rows = torch.arange(len(chunk.members), device=losses.device)
    offset = 0
    for index, kept in enumerate(chunk.kept):
        states = trail[:, offset : offset + kept.numel()].view(len(trail), *kept.shape)
        offset += kept.numel()
        mask = better.view(-1, *[1] * (kept.ndim - 1))
        chunk.kept[index] = torch.where(mask, states[where, rows], kept)
