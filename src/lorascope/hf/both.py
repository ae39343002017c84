"""The tuned model and the adapted base side by side: what each says, and how far apart they are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .adapter_files import PREFIX
from .choose import Choice
from .cotangents import Output, output_of, run
from .functional import adapted, load_base, load_full, mean_kl
from .pairs import Models
from .passes import Inputs
from .quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Both", "load_both"]

_CACHED = 1 << 28  # bytes of the tuned model's outputs that are kept rather than computed again


@dataclass
class Both:
    """Two models in float32, no parameter of which needs a gradient.

    Attributes:
        teacher: the tuned model.
        student: the base with an adapter, as PEFT holds it.
        batches: tokens, where the models are.
        factors: A and B in the student, by the matrix's name; not of stacked experts and tied embeddings.
        biases: of the student, by the module's name.
    """

    teacher: "PreTrainedModel"
    student: "PreTrainedModel"
    batches: Sequence[Inputs]
    factors: dict[str, tuple[Tensor, Tensor]]
    biases: dict[str, Tensor]
    _kept: dict[int, tuple[Output, Tensor | None]] = field(default_factory=dict[int, tuple[Output, Tensor | None]])
    _bytes: int = 0

    def wanted(self, index: int) -> tuple[Output, Tensor | None]:
        """The tuned model's output on a batch, and its last hidden states; kept while they are small."""
        if index in self._kept:
            return self._kept[index]
        with torch.no_grad():
            made = read(self.teacher, self.batches[index])
        values = [made[0].value] if made[1] is None else [made[0].value, made[1]]
        size = sum(value.numel() * value.element_size() for value in values)
        if self._bytes + size <= _CACHED:
            self._bytes += size
            self._kept[index] = made
        return made

    def losses(self, index: int, instead: Inputs | None = None) -> tuple[Tensor, Tensor]:
        """On one batch: ``KL(teacher || student)``, in nats, and the relative error of the last hidden states.

        For a single output and for hidden states the halved squared error stands for the divergence.

        Args:
            index: of the batch.
            instead: what is read in its place.
        """
        if instead is None:
            wanted, hidden = self.wanted(index)
        else:
            with torch.no_grad():
                wanted, hidden = read(self.teacher, instead)
        got, got_hidden = read(self.student, self.batches[index] if instead is None else instead)
        if wanted.distribution:
            divergence = mean_kl(wanted.rows, got.rows)
        else:
            divergence = 0.5 * (got.rows - wanted.rows).square().sum(-1).mean()
        error = divergence.new_zeros(())
        if hidden is not None and got_hidden is not None:
            error = torch.linalg.vector_norm(got_hidden - hidden) / torch.linalg.vector_norm(hidden)
        return divergence, error

    @property
    def measure(self) -> str:
        """What ``divergence`` is of these models, in words."""
        return "KL" if self.wanted(0)[0].distribution else "halved squared error"

    def divergence(self) -> float:
        """Mean over all batches, each weighing as many texts as it has."""
        total, texts = 0.0, 0
        with torch.no_grad():
            for index, batch in enumerate(self.batches):
                count = next(iter(batch.values())).shape[0]
                total += count * float(self.losses(index)[0])
                texts += count
        return total / texts


def load_both(models: Models, choice: Choice, adapter: Path, batches: Sequence[Inputs], device: str) -> Both:
    """Load the tuned model, and the base with an adapter on it.

    Args:
        models: base and tuned.
        choice: what the adapter carries.
        adapter: its folder.
        batches: tokens.
        device: where both go.
    """
    with quiet():
        teacher = load_full(models).to(torch.device(device))  # pyright: ignore[reportArgumentType]
        student = adapted(load_base(models), adapter).to(torch.device(device))
    for model in (teacher, student):
        model.requires_grad_(requires_grad=False)
    moved = [{name: value.to(device) for name, value in batch.items()} for batch in batches]
    parameters = dict(student.named_parameters(remove_duplicate=False))  # a head may share its bias with another module
    biases = {pair.module: parameters[f"{PREFIX}{pair.module}.base_layer.bias"] for pair in choice.biases}
    return Both(teacher, student, moved, dict(_factors(parameters, choice)), biases)


def _factors(parameters: dict[str, Tensor], choice: Choice) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    for pair in choice.factors:
        if pair.kind == "expert" or pair.slot.tied:
            continue
        ending = "lora_embedding_{}.default" if pair.kind == "embedding" else "lora_{}.default.weight"
        names = [f"{PREFIX}{pair.module}.{ending.format(side)}" for side in "AB"]
        if names[0] in parameters:
            yield pair.name, (parameters[names[0]], parameters[names[1]])


def read(model: Any, batch: Inputs) -> tuple[Output, Tensor | None]:  # noqa: ANN401
    """What it puts out; and beside logits the last hidden states at the positions that count, where it tells them."""
    made = run(model, {**batch, "output_hidden_states": True})
    output = output_of(made, batch)
    states = made.get("hidden_states") or made.get("decoder_hidden_states")
    last = states[-1] if output.logits and states else None
    mask = batch.get("attention_mask")
    if last is not None and mask is not None and last.shape[:2] == mask.shape:
        last = last[mask.bool()]
    return output, last
