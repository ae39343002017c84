"""Many transformers at once, as the products of weights that their outputs depend on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...models import TransformerNetwork
from ...shapes import Float

__all__ = [
    "Effective",
    "Softmax",
    "effective_of",
    "forward",
    "gather",
    "hidden_values",
    "layerwise_error",
    "squared_error",
    "straight_through",
]


@dataclass(frozen=True)
class Softmax:
    """How a block's attention weights depend on its scores while training.

    Attributes:
        scale: factor on the scores.
        straight: scores enter as they are, only the derivative is taken at ``scale`` times the scores.
    """

    scale: float = 1.0
    straight: bool = False


@dataclass(frozen=True)
class Effective:
    """Transformers without residual or normalisation in the coordinates of their ReLU outputs ``h_l``.

    ``h_l = ReLU(sum_h B_h (h_{l-1} + t_{l-1}) softmax(...) + b_l)`` with scores ``(h + t)_key^T A_h (h + t)_query``,
    ``h_0 + t_0`` the input, and output ``C h_L + c``.

    Attributes:
        scores: ``A``, block by block, (members, heads, width, width).
        values: ``B``, likewise.
        biases: ``b``, (members, width) each.
        shifts: ``t``, of every block but the first.
        final: ``C``, (members, width, width).
        offset: ``c``, (members, width).
    """

    scores: Sequence[Float[Tensor, "members heads width width"]]
    values: Sequence[Float[Tensor, "members heads width width"]]
    biases: Sequence[Float[Tensor, "members width"]]
    shifts: Sequence[Float[Tensor, "members width"]]
    final: Float[Tensor, "members width width"]
    offset: Float[Tensor, "members width"]

    def to(self, dtype: torch.dtype) -> "Effective":
        """The same in another dtype."""
        return self.mapped(lambda value: value.to(dtype))

    def member(self, index: int) -> "Effective":
        """One of them, a members axis of 1."""
        return self.mapped(lambda value: value[index : index + 1])

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Effective":
        """The same with every tensor changed."""
        return Effective(
            [change(value) for value in self.scores],
            [change(value) for value in self.values],
            [change(value) for value in self.biases],
            [change(value) for value in self.shifts],
            change(self.final),
            change(self.offset),
        )


def gather(networks: Sequence[Effective]) -> Effective:
    """One batch of all members of all batches."""
    joined = lambda lists: [torch.cat(values) for values in zip(*lists, strict=True)]  # noqa: E731
    return Effective(
        joined([one.scores for one in networks]),
        joined([one.values for one in networks]),
        joined([one.biases for one in networks]),
        joined([one.shifts for one in networks]),
        torch.cat([one.final for one in networks]),
        torch.cat([one.offset for one in networks]),
    )


def effective_of(model: TransformerNetwork, heads: int | None = None) -> Effective:
    """One transformer (a members axis of 1), in float64.

    ``A_h = W_2^T W_K^T W_Q W_2`` and ``B_h = W_1 W_O W_V W_2`` with ``W_2`` of the block before, ``C = W_o W_2``.
    A shift ``t = W_2^{-1} b_2`` is taken in the least-squares sense.

    Args:
        model: left as it is.
        heads: pad with heads that contribute nothing up to this many.
    """
    scores, values, biases, shifts = [], [], [], []
    before: Tensor | None = None
    for block in model.layers:
        query, key, value, out = (getattr(block, name).detach().double() for name in ("query", "key", "value", "out"))
        score, mixed = key.mT @ query, block.ffn_in.weight.detach().double() @ out @ value
        if before is not None:
            score, mixed = before.T @ score @ before, mixed @ before
        missing = (heads or len(score)) - len(score)
        scores.append(torch.nn.functional.pad(score, (0, 0, 0, 0, 0, missing))[None])
        values.append(torch.nn.functional.pad(mixed, (0, 0, 0, 0, 0, missing))[None])
        biases.append(block.ffn_in.bias.detach().double()[None])
        before = block.ffn_out.weight.detach().double()
        bias = block.ffn_out.bias.detach().double()
        shifts.append(torch.linalg.lstsq(before, bias[:, None], driver="gelsd").solution[:, 0][None])
    last = model.layers[-1].ffn_out
    final = model.output.weight.detach().double()
    return Effective(
        scores,
        values,
        biases,
        shifts[:-1],
        (final @ last.weight.detach().double())[None],
        (final @ last.bias.detach().double())[None],
    )


def forward(
    networks: Effective, inputs: Float[Tensor, "batch seq width"], softmax: Sequence[Softmax] | None = None
) -> Float[Tensor, "members batch seq width"]:
    """Outputs of every member."""
    last = hidden_values(networks, inputs, softmax)[-1]
    members, batch, seq, width = last.shape
    flat = torch.baddbmm(networks.offset[:, None], last.reshape(members, batch * seq, width), networks.final.mT)
    return flat.view(members, batch, seq, width)


def hidden_values(
    networks: Effective, inputs: Float[Tensor, "batch seq width"], softmax: Sequence[Softmax] | None = None
) -> list[Float[Tensor, "members batch seq width"]]:
    """ReLU outputs of every block, every member.

    Cost O(members heads batch seq (width^2 + seq width)) a block.
    """
    ways = softmax or [Softmax()] * len(networks.scores)
    found: list[Tensor] = []
    for index, (score, value, bias, way) in enumerate(
        zip(networks.scores, networks.values, networks.biases, ways, strict=True)
    ):
        if index == 0:
            mixed = _mix_shared(inputs, score, way)
        else:
            mixed = _mix(found[-1] + networks.shifts[index - 1][:, None, None], score, way)
        found.append(block_output(mixed, value, bias, inputs.shape))
    return found


def layerwise_error(
    networks: Effective,
    target: Effective,
    inputs: Float[Tensor, "batch seq width"],
    softmax: Sequence[Softmax] | None = None,
) -> Float[Tensor, " members"]:
    """Mean squared errors of all blocks, each given the target's hidden values of the block before, and of the output.

    The last block counts by what the output makes of it.
    """
    with torch.no_grad():
        hidden = hidden_values(target, inputs)
        wanted = forward(target, inputs)
    members, width = networks.offset.shape
    total = networks.offset.new_zeros(members)
    ways = softmax or [Softmax()] * len(networks.scores)
    for index, (score, way) in enumerate(zip(networks.scores, ways, strict=True)):
        if index == 0:
            mixed = _mix_shared(inputs, score, way)
        else:
            mixed = _mix(hidden[index - 1] + networks.shifts[index - 1][:, None, None], score, way)
        found = block_output(mixed, networks.values[index], networks.biases[index], inputs.shape)
        if index < len(ways) - 1:
            total = total + (found - hidden[index]).square().mean((1, 2, 3))
        else:
            flat = found.reshape(members, -1, width)
            output = torch.baddbmm(networks.offset[:, None], flat, networks.final.mT).view_as(found)
            total = total + (output - wanted).square().mean((1, 2, 3))
    return total


def block_output(
    mixed: Float[Tensor, "members tokens _"], value: Tensor, bias: Tensor, shape: Sequence[int]
) -> Float[Tensor, "members batch seq width"]:
    """``ReLU(sum_h B_h mixed_h + b)``."""
    members, width = bias.shape
    stacked = value.mT.reshape(members, -1, width)  # heads * in, out
    return torch.relu(torch.baddbmm(bias[:, None], mixed, stacked)).view(members, *shape[:-1], width)


def _mix_shared(inputs: Tensor, score: Tensor, way: Softmax) -> Float[Tensor, "members tokens _"]:
    """Attention's mixture of tokens that all members share: members and heads stand among the rows of one product."""
    batch, seq, width = inputs.shape
    members, heads = score.shape[:2]
    stacked = score.permute(3, 0, 1, 2).reshape(width, members * heads * width)
    queries = (inputs.reshape(batch * seq, width) @ stacked).view(batch, seq * members * heads, width)
    mixed = _attend(inputs, queries, way)
    return mixed.view(batch * seq, members, heads * width).transpose(0, 1)


def _mix(tokens: Tensor, score: Tensor, way: Softmax) -> Float[Tensor, "members tokens _"]:
    """Attention's mixture of tokens of which every member has its own."""
    members, batch, seq, width = tokens.shape
    heads = score.shape[1]
    stacked = score.permute(0, 3, 1, 2).reshape(members, width, heads * width)
    queries = torch.bmm(tokens.view(members, batch * seq, width), stacked)
    mixed = _attend(tokens.view(members * batch, seq, width), queries.view(members * batch, seq * heads, width), way)
    return mixed.view(members, batch * seq, heads * width)


def _attend(tokens: Tensor, queries: Tensor, way: Softmax) -> Tensor:
    # keys in the second axis: torch's softmax over a short last axis is ten times as slow
    scores = torch.bmm(tokens, queries.mT)
    if way.straight:
        weights = straight_through(scores, way.scale)
    else:
        weights = (scores if way.scale == 1 else scores * way.scale).softmax(dim=1)
    return torch.bmm(weights.mT, tokens)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, scale: float) -> Tensor:  # noqa: ANN401 - torch does not name its type
        ctx.save_for_backward((scores * scale).softmax(dim=1))
        return scores.softmax(dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (soft,) = ctx.saved_tensors
        weighted = soft * gradients[0]
        return torch.addcmul(weighted, soft, weighted.sum(dim=1, keepdim=True), value=-1), None


def straight_through(scores: Float[Tensor, "batch keys queries"], scale: float) -> Float[Tensor, "batch keys queries"]:
    """Softmax over keys whose derivative is softmax's Jacobian at ``scale * scores``.

    Saturated attention has no gradient to speak of; at scores made smaller it points to where the weights would move.
    The factor ``scale`` of the chain rule is left out, for an optimiser that divides by the gradient's size.
    """
    return _StraightThrough.apply(scores, scale)


def squared_error(
    networks: Effective, target: Effective, inputs: Float[Tensor, "batch seq width"], chunk: int = 500
) -> Float[Tensor, " members"]:
    """Mean squared output error of every member, over all coordinates."""
    with torch.no_grad():
        total = networks.offset.new_zeros(len(networks.offset))
        for part in inputs.split(chunk):
            wanted = forward(target, part)
            for member in range(len(total)):  # one at a time: the intermediate values stay in cache
                total[member] += (forward(networks.member(member), part) - wanted).square().sum()
        return total / inputs.numel()
