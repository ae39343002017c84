"""Texts run through a model and back: what goes into chosen modules, and the gradients at what comes out."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .cotangents import cotangents, output_of, run

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .cotangents import Output

__all__ = ["Inputs", "Seen", "run_back"]

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Seen:
    """One module in one pass back.

    Attributes:
        name: the module's.
        module: itself.
        given: its input, (batch, ..., inp); of an embedding the tokens, (batch, ...).
        gradient: at its output, (batch, ..., out).
        direction: which of the passes back of this batch.
        batch: the model's inputs.
    """

    name: str
    module: nn.Module
    given: Tensor
    gradient: Tensor
    direction: int
    batch: Inputs

    def unpadded(self, value: Tensor, trailing: int) -> Tensor:
        """Positions as rows: (batch, seq, ...) without the padding."""
        mask = self.batch.get("attention_mask")
        if mask is not None and value.shape[: value.dim() - trailing] == mask.shape:
            return value[mask.bool()]
        return value.reshape(-1, *value.shape[value.dim() - trailing :])


def run_back(
    model: "PreTrainedModel",
    names: Sequence[str],
    batch: Inputs,
    generator: torch.Generator,
    visit: Callable[[Seen], None],
) -> "tuple[Output, list[Tensor]]":
    """One batch forward, and back along each of its output's directions.

    Args:
        model: its parameters need no gradient.
        names: of the modules.
        batch: tokens.
        generator: draws directions.
        visit: called for every module that lies on the way to the output, once a direction.

    Returns:
        The output and its directions; none where no module lies on the way.

    Raises:
        CheckpointError: a model whose output is neither logits nor hidden states.
    """
    number = 0

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
        def after(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
            given = arguments[0].detach()
            if not output.requires_grad:
                # the first on the way: the graph begins here; a copy, for what follows may write into it
                output = output.detach().requires_grad_().clone()
            output.register_hook(lambda gradient: visit(Seen(name, module, given, gradient, number, batch)))
            return output

        return after

    with ExitStack() as hooks, torch.enable_grad():
        for name in names:
            hooks.callback(model.get_submodule(name).register_forward_hook(hook(name)).remove)
        output = output_of(run(model, batch), batch)
        directions = cotangents(output, generator) if output.value.requires_grad else []
        for number, direction in enumerate(directions):
            output.value.backward(direction, retain_graph=number + 1 < len(directions))
    return output, directions
