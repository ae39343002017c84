"""What has to be matched in transformers with skips, normalisations, biases, narrow heads or wide hidden layers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..models import Block, TransformerNetwork
from ..shapes import Float
from .matching import Match
from .narrow import NarrowMatch
from .pair import coarser_dtype
from .streams import Seen, align, centred_basis, raw, seen_through

__all__ = ["BlockPlan", "VariantPlan", "block_bias", "plan_variant", "square_match"]


@dataclass(frozen=True)
class BlockPlan:
    """What one block's layers see, and the products to be matched in it.

    Attributes:
        attention, ffn: inputs of the attention and of the feed-forward layer.
        scores, values: one product of two factors a head; heads that the target lacks have no scores.
        hidden: number of hidden units the target has.
        frame: (embed, embed), B with ``adapted token = B target token`` after the block.
    """

    attention: Seen
    ffn: Seen
    scores: tuple[NarrowMatch, ...]
    values: tuple[NarrowMatch, ...]
    hidden: int
    frame: Float[Tensor, "embed embed"]


@dataclass(frozen=True)
class VariantPlan:
    """All that is to be matched for a frozen and a target transformer of one form.

    Attributes:
        blocks: one a block.
        final: what the output matrix sees.
        own_final: whether the output matrix alone restores the final normalisation's shift.
        matches: every product, heads with their full inner dimension as squares.
    """

    blocks: tuple[BlockPlan, ...]
    final: Seen
    own_final: bool
    matches: tuple[Match | NarrowMatch, ...]


_Matches = list[Match | NarrowMatch]
_Block = Callable[[TransformerNetwork, TransformerNetwork, int, BlockPlan | None], tuple[BlockPlan, _Matches]]
_Output = Callable[[TransformerNetwork, TransformerNetwork], tuple[Seen, bool, _Matches]]


def plan_variant(frozen: TransformerNetwork, target: TransformerNetwork) -> VariantPlan:
    """The products that make an adapted transformer equal to the target, for every form of transformer.

    Tokens of a stream (with skips or normalisations) must agree: head by head ``W_K^T W_Q`` and ``W_O W_V``, then
    ``W_1``, ``W_2`` and ``W_o`` alone. After a normalisation tokens lie in ``Gamma 1^perp + beta``, and before one the
    direction of 1 is lost, so all these are matched on 1^perp where the biases can make up for the shift. Without
    skips and normalisations tokens need agree only up to a linear map: one that spares ``W_1`` and ``W_2``, or the
    identity, whichever needs the smaller rank.

    Source: new; extends Zeng & Lee 2024, Theorem 7.
    """
    if frozen.norm_place is not None or frozen.residual:
        return _plan(frozen, target, _streamed, _output)
    plans = [_plan(frozen, target, partial(_coupled, turned=turned), _last_product) for turned in (True, False)]
    return min(plans, key=_cost)


def _cost(plan: VariantPlan) -> tuple[int, int]:
    caps = [match.least_cap for match in plan.matches]
    return max(caps, default=0), sum(sum(match.least_ranks) for match in plan.matches)


def _plan(frozen: TransformerNetwork, target: TransformerNetwork, block: _Block, output: _Output) -> VariantPlan:
    blocks: list[BlockPlan] = []
    matches: list[Match | NarrowMatch] = []
    for index in range(frozen.depth):
        plan, found = block(frozen, target, index, blocks[-1] if blocks else None)
        blocks.append(plan)
        matches += found
    final, own, found = output(frozen, target)
    matches += found
    return VariantPlan(tuple(blocks), final, own, tuple(match for match in matches if 0 not in match.wanted.shape))


def block_bias(block: Block, name: str, like: Tensor) -> Tensor:
    """A block's attention bias in float64, zeros where it has none."""
    bias = getattr(block, name)
    shape = (block.out.shape[1],) if name == "out_bias" else block.query.shape[:2]
    return like.new_zeros(shape) if bias is None else bias.detach().to(like)


def square_match(match: NarrowMatch) -> Match | NarrowMatch:
    """The same product as one of square factors, which Lemma 1 treats at no loss, where the inner dimension is full."""
    if not match.first.shape == match.second.shape == (match.inner, match.inner):
        return match
    return Match(
        names=match.names,
        weights=torch.stack([match.first, match.second]),
        left=match.left,
        right=match.right,
        wanted=match.wanted,
        head=match.head,
        transposed=match.transposed,
        dtype=match.dtype,
    )


def _streamed(
    frozen: TransformerNetwork, target: TransformerNetwork, index: int, last: BlockPlan | None
) -> tuple[BlockPlan, _Matches]:
    """Tokens agree as they are, but for the direction of 1 where a normalisation comes next."""
    block, goal = frozen.layers[index], target.layers[index]
    like = frozen.output.weight.detach().double()
    eye = torch.eye(len(like), dtype=like.dtype, device=like.device)
    place = frozen.norm_place
    sent = eye if place is None else centred_basis(len(like), like).T
    attention = ffn = raw(frozen)
    norms = [(block.norm_attention, goal.norm_attention), (block.norm_ffn, goal.norm_ffn)]
    if place == "post" and last is not None:
        before = (frozen.layers[index - 1].norm_ffn, target.layers[index - 1].norm_ffn)
        norms = [before, norms[0]]
    pairs = [(norm, other) for norm, other in norms if norm is not None and other is not None]
    if place == "pre":
        own = frozen.attention_bias
        attention = seen_through(*pairs[0], follow=False, own_bias=own)
        ffn = seen_through(*pairs[1], follow=False, own_bias=True)
    elif place == "post":
        attention = raw(frozen) if last is None else seen_through(*pairs[0], follow=True, own_bias=True)
        ffn = seen_through(*pairs[0 if last is None else 1], follow=True, own_bias=True)
    scores, values = _heads(frozen, target, index, attention, sent, sent)
    weight, other = block.ffn_in.weight.detach().double(), goal.ffn_in.weight.detach().to(like)
    hidden, dtype = len(other), coarser_dtype(frozen, target)
    rows = torch.eye(len(weight), dtype=like.dtype, device=like.device)
    first = Match(
        names=(f"blocks.{index}.ffn_in.weight",),
        weights=weight[None],
        left=rows[:hidden],
        right=ffn.columns,
        wanted=other @ ffn.goal_columns,
        transposed=(False,),
        dtype=dtype,
    )
    second = _ffn_out(block, goal, index, sent, sent, dtype)
    plan = BlockPlan(attention, ffn, tuple(scores), tuple(values), hidden, eye)
    return plan, [*map(square_match, (*scores, *values)), first, second]


def _coupled(
    frozen: TransformerNetwork, target: TransformerNetwork, index: int, last: BlockPlan | None, *, turned: bool
) -> tuple[BlockPlan, _Matches]:
    """Tokens agree up to a linear map after each block, attention outputs likewise before ``W_1``."""
    block, goal = frozen.layers[index], target.layers[index]
    like, dtype = frozen.output.weight.detach().double(), coarser_dtype(frozen, target)
    width = len(like)
    eye = torch.eye(width, dtype=like.dtype, device=like.device)
    before = raw(frozen) if last is None else Seen(last.frame, eye, like.new_zeros(width), like.new_zeros(width))
    weight, other = block.ffn_in.weight.detach().double(), goal.ffn_in.weight.detach().to(like)
    hidden = len(other)
    rows = torch.eye(len(weight), dtype=like.dtype, device=like.device)[:hidden]
    matches: list[Match | NarrowMatch] = []
    if hidden > width or not turned:
        turn = align(other.T, (rows @ weight).T).T if turned else eye  # N of W_1 = Wbar_1 N
        sent, wanted = turn, eye
        matches.append(
            Match(
                (f"blocks.{index}.ffn_in.weight",), weight[None], rows, eye, other @ turn, None, (False,), dtype=dtype
            )
        )
    else:
        sent, wanted = rows @ weight, other
    scores, values = _heads(frozen, target, index, before, sent, wanted)
    frame = eye
    if index < frozen.depth - 1:
        pad = torch.nn.functional.pad(goal.ffn_out.weight.detach().to(like), (0, len(weight) - hidden))
        frame = align(pad, block.ffn_out.weight.detach().double()) if turned else eye
        matches.append(_ffn_out(block, goal, index, eye, frame, dtype))
    plan = BlockPlan(before, raw(frozen), tuple(scores), tuple(values), hidden, frame)
    return plan, [*map(square_match, (*scores, *values)), *matches]


def _heads(
    frozen: TransformerNetwork, target: TransformerNetwork, index: int, seen: Seen, sent: Tensor, goal_sent: Tensor
) -> tuple[list[NarrowMatch], list[NarrowMatch]]:
    """Scores and values of every head; keys need no shift, for it moves all scores of a query alike."""
    block, goal = frozen.layers[index], target.layers[index]
    right, goal_right = (seen.columns, seen.goal_columns) if frozen.attention_bias else seen.with_shift()
    query, key, value, out = (w.detach().double() for w in (block.query, block.key, block.value, block.out))
    goals = [w.detach().to(query) for w in (goal.query, goal.key, goal.value, goal.out)]
    scores, values = [], []
    dtype, prefix = coarser_dtype(frozen, target), f"blocks.{index}"
    for head in range(frozen.num_heads):
        if head < target.num_heads:
            scores.append(
                NarrowMatch(
                    names=(f"{prefix}.query", f"{prefix}.key"),
                    first=query[head],
                    second=key[head].T,
                    left=seen.columns.T,
                    right=right,
                    goal_first=goals[0][head] @ goal_right,
                    goal_second=(goals[1][head] @ seen.goal_columns).T,
                    head=head,
                    transposed=(False, True),
                    dtype=dtype,
                )
            )
            wanted = (goals[2][head] @ goal_right, goal_sent @ goals[3][head])
        else:
            wanted = (right.new_zeros(0, right.shape[1]), sent.new_zeros(len(sent), 0))
        values.append(
            NarrowMatch(
                names=(f"{prefix}.value", f"{prefix}.out"),
                first=value[head],
                second=out[head],
                left=sent,
                right=right,
                goal_first=wanted[0],
                goal_second=wanted[1],
                head=head,
                dtype=dtype,
            )
        )
    return scores, values


def _ffn_out(block: Block, goal: Block, index: int, sent: Tensor, goal_sent: Tensor, dtype: torch.dtype) -> Match:
    weight, other = block.ffn_out.weight.detach().double(), goal.ffn_out.weight.detach()
    spare = weight.shape[1] - other.shape[1]
    return Match(
        names=(f"blocks.{index}.ffn_out.weight",),
        weights=weight[None],
        left=sent,
        right=torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device),
        wanted=torch.nn.functional.pad(goal_sent @ other.to(weight), (0, spare)),
        transposed=(False,),
        dtype=dtype,
    )


def _output(frozen: TransformerNetwork, target: TransformerNetwork) -> tuple[Seen, bool, _Matches]:
    """The output matrix alone, behind a normalisation that keeps its scale; its shift too where that costs no rank."""
    weight, dtype = frozen.output.weight.detach().double(), coarser_dtype(frozen, target)
    norm, goal = (net.norm if net.norm_place == "pre" else net.layers[-1].norm_ffn for net in (frozen, target))
    eye = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
    wanted = target.output.weight.detach().to(weight)

    def match(right: Tensor, goal_right: Tensor) -> Match:
        return Match(("output.weight",), weight[None], eye, right, wanted @ goal_right, None, (False,), dtype=dtype)

    if norm is None or goal is None:
        return raw(frozen), True, [match(eye, eye)]
    seen = seen_through(norm, goal, follow=False, own_bias=True)
    free = match(seen.columns, seen.goal_columns)
    own = match(*seen.with_shift())
    if 0 in own.wanted.shape:
        return seen, seen.shifts_agree, []
    if seen.shifts_agree and (0 not in free.wanted.shape) and own.gap.rank <= free.gap.rank:
        return seen, True, [own]
    return seen, False, [free]


def _last_product(frozen: TransformerNetwork, target: TransformerNetwork) -> tuple[Seen, bool, _Matches]:
    """``W_o W_2`` of the last block.

    Hidden units that the target lacks must contribute nothing. Their columns of ``W_2`` vanish then, and as one product
    that might be at the cost of a singular ``W_o``, which lets no ``b_2`` through: both matrices are matched alone.
    """
    first, second = frozen.layers[-1].ffn_out.weight.detach().double(), frozen.output.weight.detach().double()
    width, hidden = first.shape
    goal = target.layers[-1].ffn_out.weight.detach().to(first)
    names = (f"blocks.{frozen.depth - 1}.ffn_out.weight", "output.weight")
    eye, dtype = torch.eye(width, dtype=first.dtype, device=first.device), coarser_dtype(frozen, target)
    wanted = target.output.weight.detach().to(first)
    if target.ffn_dim < hidden:
        alone = _ffn_out(frozen.layers[-1], target.layers[-1], frozen.depth - 1, eye, eye, dtype)
        last = Match(names[1:], second[None], eye, eye, wanted, None, (False,), dtype=dtype)
        return raw(frozen), True, [alone, last]
    if hidden <= width:
        # columns that the match does not see make the first factor square
        spare = torch.linalg.svd(first).U[:, hidden:] * torch.linalg.matrix_norm(first, 2)
        weights = torch.stack([torch.cat([first, spare], dim=1), second])
        square = Match(names, weights, eye, eye[:, :hidden], wanted @ goal, None, (False, False), dtype=dtype)
        return raw(frozen), True, [square]
    unit = torch.eye(hidden, dtype=first.dtype, device=first.device)
    return raw(frozen), True, [NarrowMatch(names, first, second, eye, unit, goal, wanted, dtype=dtype)]
