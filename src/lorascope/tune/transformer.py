"""Losses and gradients of many adapted transformers at once."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from ..models import TransformerNetwork
from ..optim import ObjectiveName, OutputLoss, output_loss
from ..shapes import Float
from .batches import Batch
from .layout import Layout

__all__ = ["TransformerGradient", "fitting_transformers"]

Weights = Mapping[str, Tensor]  # parameter name -> (members, *shape)
# Bytes of the activations of members that are worked on together.
CACHE = 16 << 20


class TransformerGradient:
    """Loss of each member and its gradient, an objective for :func:`.engine.train`.

    The whole weights ``W + B A`` are formed once a step. Torch differentiates the outputs by them, and the gradient of
    the factors follows from that: ``B^T G`` and ``G A^T``.

    Args:
        frozen: the model.
        layout: of the members' parameters.
        objective: what is minimised, a mean over all tokens.
    """

    def __init__(self, frozen: TransformerNetwork, layout: Layout, objective: ObjectiveName = "mse") -> None:
        self._layout = layout
        self._objective: ObjectiveName = objective
        self._frozen = {name: parameter.detach() for name, parameter in frozen.named_parameters()}
        self._forward = _forward_of(frozen)

    def visit(
        self,
        parameters: Sequence[Tensor],
        batch: Batch | None,
        validation: Batch | None = None,
        *,
        losses: bool = True,
        into: Sequence[Tensor] | None = None,
    ) -> tuple[Float[Tensor, " members"], Float[Tensor, " members"]]:
        """Losses on ``batch`` and on ``validation``, not a number where not asked for, and the gradient on ``batch``.

        Args:
            parameters: as the layout orders them.
            batch, validation: tokens and the target's, (batch, seq, embed) each.
            losses: whether those on ``batch`` are wanted.
            into: where to write the gradient.
        """
        members = len(parameters[0])
        unknown = parameters[0].new_full((members,), torch.nan)
        with torch.no_grad():
            trained = self._merged(parameters)
            fixed = {name: value.expand(members, *value.shape) for name, value in self._frozen.items()} | trained
            held_out = unknown if validation is None else self._losses(fixed, validation)
        if batch is None:
            return unknown, held_out
        with torch.enable_grad():
            leaves = {name: value.detach().requires_grad_() for name, value in trained.items()}
            outputs, targets = self._outputs(fixed | leaves, batch)
        with torch.no_grad():
            found, loss = torch.empty_like(unknown) if losses else None, self._loss_for(outputs)
            loss.gradient(outputs, targets, found)
        if into is not None:
            grads = torch.autograd.grad(outputs, list(leaves.values()), loss.upstream, materialize_grads=True)
            self._pull_back(parameters, dict(zip(leaves, grads, strict=True)), into)
        return unknown if found is None else found, held_out

    def _losses(self, weights: Weights, batch: Batch) -> Float[Tensor, " members"]:
        outputs, targets = self._outputs(weights, batch)
        found = outputs.new_empty(len(outputs))
        self._loss_for(outputs).values(outputs, targets, found)
        return found

    def _outputs(self, weights: Weights, batch: Batch) -> Batch:
        """Outputs and targets with all sequences' tokens in a row, last: (members, embed, batch*seq)."""
        tokens, targets = batch
        outputs = self._forward(weights, tokens)
        return outputs.flatten(1, 2).mT, targets.flatten(0, 1).mT

    def _loss_for(self, outputs: Tensor) -> OutputLoss:
        return output_loss(self._objective, tuple(outputs.shape), outputs)

    def _factors(self, tensors: Sequence[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        names = list(self._layout.ranks)
        return {name: (tensors[index], tensors[len(names) + index]) for index, name in enumerate(names)}

    def _rest(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        names = (*self._layout.full, *self._layout.biases)
        return dict(zip(names, tensors[2 * len(self._layout.ranks) :], strict=True))

    def _merged(self, parameters: Sequence[Tensor]) -> dict[str, Tensor]:
        """What the members' networks have in place of the frozen parameters."""
        sums = {name: self._frozen[name] + b @ a for name, (a, b) in self._factors(parameters).items()}
        return sums | self._rest(parameters)

    def _pull_back(self, parameters: Sequence[Tensor], grads: Mapping[str, Tensor], into: Sequence[Tensor]) -> None:
        slots = self._factors(into)
        with torch.no_grad():
            for name, (a, b) in self._factors(parameters).items():
                torch.matmul(b.mT, grads[name], out=slots[name][0])
                torch.matmul(grads[name], a.mT, out=slots[name][1])
            for name, slot in self._rest(into).items():
                slot.copy_(grads[name])


def fitting_transformers(frozen: TransformerNetwork, rows: int, tokens: int) -> int:
    """How many members to work on together: as many as the cache takes, at least 2; on a GPU all.

    Args:
        frozen: the model.
        rows, tokens: of a batch.
    """
    like = frozen.output.weight
    if like.is_cuda:
        return 1 << 30
    each = rows * tokens * (frozen.num_heads * (frozen.embed_dim + tokens) + 2 * frozen.embed_dim) * frozen.depth
    return max(2, CACHE // (each * like.element_size()))


def _forward_of(frozen: TransformerNetwork) -> Callable[[Weights, Tensor], Tensor]:
    """(weights, tokens) -> outputs of all members, (members, batch, seq, embed)."""
    if frozen.is_paper_form:
        depth = frozen.depth
        return lambda weights, tokens: _papers_network(weights, tokens, depth)
    one = lambda weights, tokens: functional_call(frozen, dict(weights), (tokens,))  # noqa: E731
    return torch.func.vmap(one, in_dims=(0, None))


def _papers_network(weights: Weights, tokens: Float[Tensor, "batch seq embed"], depth: int) -> Tensor:
    """All members' networks, with as few and as large products as their form allows.

    ``W_K^T W_Q`` is one matrix a head, and so is ``W_1 W_O W_V``. The heads' queries are rows of one matrix a sequence
    (for the first block, whose input they share, all members' are), and softmax runs down columns, which vectorises.
    """
    rows, seq, embed = tokens.shape
    hidden, members = tokens, len(weights["output.weight"])
    for index in range(depth):
        of = {name: weights[f"blocks.{index}.{name}"] for name in ("query", "key", "value", "out")}
        first = {name: weights[f"blocks.{index}.ffn_in.{name}"] for name in ("weight", "bias")}
        heads = of["query"].shape[1]
        score = of["query"].mT @ of["key"]  # members heads embed embed
        value = first["weight"].unsqueeze(1) @ of["out"] @ of["value"]  # members heads ffn embed
        if index == 0:
            queries = hidden.reshape(-1, embed) @ score.permute(2, 0, 1, 3).reshape(embed, -1)
            keys, queries = hidden, queries.view(rows, -1, embed)  # batch seq*members*heads embed
        else:
            queries = hidden @ score.transpose(1, 2).reshape(members, embed, -1)
            keys, queries = hidden.reshape(-1, seq, embed), queries.view(members * rows, -1, embed)
        attend = (keys @ queries.mT).softmax(dim=1)  # ... seq(key) queries
        mixed = attend.mT @ keys  # ... queries embed
        if index == 0:
            mixed = mixed.view(rows * seq, members, -1).transpose(0, 1)
        else:
            mixed = mixed.view(members, rows * seq, -1)
        # members batch*seq heads*embed -> members batch*seq ffn
        inner = torch.baddbmm(first["bias"].unsqueeze(1), mixed, value.mT.reshape(members, heads * embed, -1)).relu()
        second, bias = (weights[f"blocks.{index}.ffn_out.{name}"] for name in ("weight", "bias"))
        if index == depth - 1:
            final = weights["output.weight"]
            second, bias = final @ second, (final @ bias.unsqueeze(-1)).squeeze(-1)
        hidden = torch.baddbmm(bias.unsqueeze(1), inner, second.mT)
    return hidden.view(members, rows, seq, -1)
