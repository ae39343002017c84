"""A short distillation: the factors, trained until the adapted base says on texts what the tuned model says."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from .both import Both
from .choose import Choice
from .factors import Factors
from .passes import Inputs

__all__ = ["refine"]

RATE = 3e-4
REPLACED = 0.2
"""Share of a batch's tokens that a step exchanges: the texts are few, and the factors would learn them by heart."""
HIDDEN = 1.0
"""Weight of the last hidden states' relative error beside the divergence."""


def refine(
    both: Both,
    choice: Choice,
    found: Sequence[Factors],
    steps: int,
    progress: Callable[[float, str], None] | None = None,
) -> list[Factors]:
    """Train the factors by Adam, at a rate that falls along a cosine; the student's change with them.

    The loss is ``KL(tuned || adapted)``, mean over unpadded positions, plus the relative error of the last hidden
    states. Stacked experts and tied embeddings stay as they are.

    Args:
        both: the models.
        choice: what is carried.
        found: the factors as the student has them.
        steps: how many; a batch each, in an order drawn anew once all were used.
        progress: called with the share done and a few words.

    Returns:
        The factors, residuals not yet measured.

    Source: Hinton et al. 2015. Cost a step: a forward pass of the tuned model, a forward and a backward
    one of the adapted base.
    """
    generator = torch.Generator().manual_seed(0)
    order = _order(len(both.batches), generator)
    parameters = [side.requires_grad_() for sides in both.factors.values() for side in sides]
    optimiser = torch.optim.Adam(parameters, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        if progress is not None:
            progress(step / steps, f"refining, step {step + 1} of {steps}")
        optimiser.zero_grad()
        with torch.enable_grad():
            index = next(order)
            divergence, error = both.losses(index, _varied(both.batches[index], generator))
            (divergence + HIDDEN * error).backward()
        optimiser.step()
        schedule.step()
    for side in parameters:
        side.requires_grad_(False)
    return [_read(both, pair.name, pair.kind == "embedding", factors)
            for pair, factors in zip(choice.factors, found, strict=True)]  # fmt: skip


def _varied(batch: Inputs, generator: torch.Generator) -> Inputs:
    """Some tokens exchanged for others of the batch: the tuned model has an answer to these texts too.

    The first and the last token of a text often frame it; they stay.
    """
    tokens = batch["input_ids"]
    mask = batch.get("attention_mask", torch.ones_like(tokens)).bool()
    inside = mask.clone()
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    inside[:, 0] = inside[:, -1] = False
    pool = tokens[inside]
    if not len(pool):
        return batch
    exchanged = inside & (torch.rand(tokens.shape, generator=generator) < REPLACED).to(tokens.device)
    drawn = pool[torch.randint(len(pool), tokens.shape, generator=generator).to(tokens.device)]
    return {**batch, "input_ids": torch.where(exchanged, drawn, tokens)}


def _read(both: Both, name: str, embedding: bool, factors: Factors) -> Factors:
    if name not in both.factors or factors.rank == 0:
        return factors
    A, B = (side.detach().cpu().clone() for side in both.factors[name])
    # PEFT's factors of an embedding are those of its transpose
    return replace(factors, A=B.T, B=A.T) if embedding else replace(factors, A=A, B=B)


def _order(count: int, generator: torch.Generator) -> Iterator[int]:
    while True:
        yield from torch.randperm(count, generator=generator).tolist()
