"""A short distillation: the factors, trained until the adapted base says on texts what the tuned model says."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import SpecError
from .adapter_files import PREFIX
from .choose import Choice
from .cotangents import output_of
from .factors import Factors
from .functional import adapted, load_base, load_full, quiet
from .pairs import Models

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Refined", "refine"]

RATE = 3e-4
HIDDEN = 0.1
"""Weight of the last hidden states' relative error beside the divergence."""
_CACHED = 1 << 28  # bytes of the tuned model's outputs that are kept rather than computed again

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Refined:
    """What the distillation came to.

    Attributes:
        factors: of every matrix; those that it cannot train as they were.
        before, after: mean divergence from the tuned model over the texts, in nats.
        steps: taken; 0 where training made it no better and the factors are those it began with.
    """

    factors: list[Factors]
    before: float
    after: float
    steps: int


def refine(
    models: Models,
    choice: Choice,
    found: Sequence[Factors],
    start: Path,
    batches: Sequence[Inputs],
    steps: int,
    device: str = "cpu",
    progress: Callable[[float, str], None] | None = None,
) -> Refined:
    """Train the factors by Adam, at a rate that falls along a cosine.

    The loss is ``KL(tuned || adapted)``, mean over unpadded positions, plus 0.1 times the relative squared error of the
    last hidden states. Stacked experts and tied embeddings stay as they are.

    Args:
        models: base and tuned.
        choice: what is carried.
        found: the factors to begin with.
        start: folder of an adapter in float32 that holds them, for PEFT to load.
        batches: tokens, a step each, in an order drawn anew once all were used.
        steps: how many.
        device: where both models run.
        progress: called with the share done and a few words.

    Raises:
        CheckpointError: a model without logits or hidden states.
        SpecError: both models do not fit into the memory.

    Source: Hinton et al. 2015. Cost: a forward pass of the tuned model, forward and backward of the adapted base a
    step; both models in float32.
    """
    told = progress or (lambda _share, _what: None)
    if device == "cpu":
        _check_memory(models)
    with quiet():
        teacher = load_full(models).to(torch.device(device))  # pyright: ignore[reportArgumentType]
        student = adapted(load_base(models), start).to(torch.device(device))
    moved = [{name: value.to(device) for name, value in batch.items()} for batch in batches]
    for parameter in itertools.chain(teacher.parameters(), student.parameters()):
        parameter.requires_grad_(False)
    trained = _trained(student, choice)
    wanted = _Wanted(teacher)
    before = _mean(wanted, student, moved)
    order = _order(len(moved), torch.Generator().manual_seed(0))
    parameters = [parameter.requires_grad_() for parameters in trained.values() for parameter in parameters]
    optimiser = torch.optim.Adam(parameters, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        told(step / steps, f"refining, step {step + 1} of {steps}")
        index = next(order)
        optimiser.zero_grad()
        with torch.enable_grad():
            divergence, error = _losses(wanted(index, moved[index]), student, moved[index])
            (divergence + HIDDEN * error).backward()
        optimiser.step()
        schedule.step()
    after = _mean(wanted, student, moved)
    if not after < before:
        return Refined(list(found), before, before, 0)
    return Refined(_read(choice, found, trained), before, after, steps)


def _check_memory(models: Models) -> None:
    from psutil import virtual_memory  # noqa: PLC0415

    needed = 2 * 4 * sum(torch.Size(pair.shape).numel() for pair in models.pairs)
    free = virtual_memory().available
    if needed > free:
        raise SpecError(
            f"--refine holds both models in float32, {needed / 1e9:.1f} GB; free are {free / 1e9:.1f} GB; "
            f"leave it out, or name a --device that has the room"
        )


def _trained(student: "PreTrainedModel", choice: Choice) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B as PEFT holds them, by the matrix's name."""
    parameters = dict(student.named_parameters())
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for pair in choice.factors:
        if pair.kind == "expert" or pair.slot.tied:
            continue
        ending = "lora_embedding_{}.default" if pair.kind == "embedding" else "lora_{}.default.weight"
        names = [f"{PREFIX}{pair.module}.{ending.format(side)}" for side in "AB"]
        if names[0] in parameters:
            found[pair.name] = parameters[names[0]], parameters[names[1]]
    return found


def _read(choice: Choice, found: Sequence[Factors], trained: dict[str, tuple[Tensor, Tensor]]) -> list[Factors]:
    made: list[Factors] = []
    for pair, factors in zip(choice.factors, found, strict=True):
        if pair.name not in trained or factors.rank == 0:
            made.append(factors)
            continue
        A, B = (side.detach().cpu().clone() for side in trained[pair.name])
        # PEFT's factors of an embedding are those of its transpose
        made.append(replace(factors, A=B.T, B=A.T) if pair.kind == "embedding" else replace(factors, A=A, B=B))
    return made


class _Wanted:
    """The tuned model's outputs, kept while they are small."""

    def __init__(self, teacher: "PreTrainedModel") -> None:
        self.teacher = teacher
        self.kept: dict[int, tuple[Tensor, Tensor | None]] = {}
        self.bytes = 0

    def __call__(self, index: int, batch: Inputs) -> tuple[Tensor, Tensor | None]:
        if index in self.kept:
            return self.kept[index]
        with torch.no_grad():
            made = _outputs(self.teacher, batch)
        size = sum(value.numel() * value.element_size() for value in made if value is not None)
        if self.bytes + size <= _CACHED:
            self.bytes += size
            self.kept[index] = made
        return made


def _outputs(model: Any, batch: Inputs) -> tuple[Tensor, Tensor | None]:  # noqa: ANN401
    """Rows of logits, or of hidden states where there are none; and the last hidden states."""
    made = model(**batch, output_hidden_states=True)
    output = output_of(made, batch)
    states = made.get("hidden_states") or made.get("decoder_hidden_states")
    value = output.value if output.mask is None else output.value[output.mask]
    last = states[-1] if output.logits and states else None
    mask = batch.get("attention_mask")
    if last is not None and mask is not None and last.shape[:2] == mask.shape:
        last = last[mask.bool()]
    return value.reshape(-1, value.shape[-1]), last


def _losses(wanted: tuple[Tensor, Tensor | None], student: Any, batch: Inputs) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Divergence, or for a single output the halved squared error; and the hidden states' relative squared error."""
    logits, hidden = wanted
    got, got_hidden = _outputs(student, batch)
    if hidden is None or logits.shape[-1] == 1:
        divergence = 0.5 * (got - logits).square().sum(-1).mean()
    else:
        left, right = logits.log_softmax(-1), got.log_softmax(-1)
        divergence = (left.exp() * (left - right)).sum(-1).mean()
    error = divergence.new_zeros(())
    if hidden is not None and got_hidden is not None:
        error = (got_hidden - hidden).square().sum() / hidden.square().sum()
    return divergence, error


def _mean(wanted: _Wanted, student: Any, batches: Sequence[Inputs]) -> float:  # noqa: ANN401
    """Divergence over all batches, each weighing as many texts as it has."""
    total, texts = 0.0, 0
    with torch.no_grad():
        for index, batch in enumerate(batches):
            count = next(iter(batch.values())).shape[0]
            total += count * float(_losses(wanted(index, batch), student, batch)[0])
            texts += count
    return total / texts


def _order(count: int, generator: torch.Generator) -> Iterator[int]:
    while True:
        yield from torch.randperm(count, generator=generator).tolist()
