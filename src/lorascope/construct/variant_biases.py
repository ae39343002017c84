"""Biases, and normalisations where they cannot stay, that go with the adapters of a transformer of any form."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..adaptation import hidden_shift
from ..models import TransformerNetwork
from ..theory import BlockPlan, Seen, VariantPlan, block_bias
from .assemble import missed

__all__ = ["variant_biases"]


def variant_biases(
    model: TransformerNetwork, target: TransformerNetwork, plan: VariantPlan
) -> tuple[dict[str, Tensor], list[str]]:
    """All biases of the adapted model, in its dtype, and what they leave undone.

    Query biases give each key the target's score for the shift of the queries (key biases move all scores of a query
    alike and stay). Values' biases and shifts pass through the softmax unchanged, so the attention's output bias makes
    up for them, or ``b_1`` where ``W_1`` comes next. Normalisations keep their parameters but where the plan says
    otherwise.

    Args:
        model: the frozen model with its adapters merged in.
        target: the target.
        plan: of the frozen model and the target.
    """
    biases: dict[str, Tensor] = {}
    notes: list[str] = []
    coupled = model.norm_place is None and not model.residual
    final = model.output.weight.detach().double()
    for index, block in enumerate(plan.blocks):
        for name, value, residual, wanted in _queries(model, target, index, block):
            biases[name] = value
            notes += missed(name, residual, wanted)
        biases |= _attention_and_hidden(model, target, index, block, coupled)
        second = target.layers[index].ffn_out.bias.detach().to(final)
        name = f"blocks.{index}.ffn_out.bias"
        if coupled and index == model.depth - 1:
            wanted = target.output.weight.detach().to(final) @ second
            biases[name] = hidden_shift(final, wanted)
            notes += missed(name, final @ biases[name] - wanted, wanted)
        else:
            biases[name] = block.frame @ second if coupled else second
    norms = _normalisations(model, target, plan, final)
    for name, value, residual, wanted in norms:
        biases[name] = value
        notes += missed(name, residual, wanted)
    dtype = model.output.weight.dtype
    return {name: value.to(dtype) for name, value in biases.items()}, notes


def _queries(
    model: TransformerNetwork, target: TransformerNetwork, index: int, plan: BlockPlan
) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    """The query biases of a block with what they miss, as seen by the keys."""
    block, goal, seen = model.layers[index], target.layers[index], plan.attention
    if block.query_bias is None:
        return
    value = block.query_bias.detach().double().clone()
    bias = block_bias(goal, "query_bias", value)
    residuals, goals = [], []
    for head in range(target.num_heads):
        query, key = block.query[head].detach().double(), block.key[head].detach().double()
        goal_query, goal_key = goal.query[head].detach().to(query), goal.key[head].detach().to(query)
        keys = (key @ seen.columns).T
        wanted = (goal_key @ seen.goal_columns).T @ (goal_query @ seen.goal_shift + bias[head])
        wanted = wanted - keys @ query @ seen.shift
        if 0 not in keys.shape:
            value[head] += hidden_shift(keys, wanted - keys @ value[head])
        residuals.append(keys @ value[head] - wanted)
        goals.append(wanted)
    yield f"blocks.{index}.query_bias", value, torch.cat(residuals), torch.cat(goals)


def _attention_and_hidden(
    model: TransformerNetwork, target: TransformerNetwork, index: int, plan: BlockPlan, coupled: bool
) -> dict[str, Tensor]:
    """The attention's output bias and ``b_1``; hidden units that the target lacks keep theirs."""
    block, goal = model.layers[index], target.layers[index]
    ours = _constant(model, index, plan.attention.shift)
    theirs = _constant(target, index, plan.attention.goal_shift)
    found: dict[str, Tensor] = {}
    weight, goal_weight = block.ffn_in.weight.detach().double(), goal.ffn_in.weight.detach().to(ours)
    first = goal.ffn_in.bias.detach().to(ours)
    if coupled:
        first = first + (goal_weight @ theirs - weight[: plan.hidden] @ ours)
    else:
        first = first + (goal_weight @ plan.ffn.goal_shift - weight[: plan.hidden] @ plan.ffn.shift)
        if block.out_bias is not None:
            found[f"blocks.{index}.out_bias"] = block.out_bias.detach().double() + (theirs - ours)
    rest = block.ffn_in.bias.detach().double()[plan.hidden :]
    found[f"blocks.{index}.ffn_in.bias"] = torch.cat([first, rest])
    return found


def _constant(model: TransformerNetwork, index: int, shift: Tensor) -> Tensor:
    """What attention gives whatever the scores: ``b_O + sum_h W_O (W_V shift + b_V)``."""
    block = model.layers[index]
    total, biases = block_bias(block, "out_bias", shift), block_bias(block, "value_bias", shift)
    for value, out, bias in zip(block.value.detach().to(shift), block.out.detach().to(shift), biases, strict=True):
        total = total + out @ (value @ shift + bias)
    return total


def _normalisations(
    model: TransformerNetwork, target: TransformerNetwork, plan: VariantPlan, final: Tensor
) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    """Parameters of normalisations that cannot stay, with what they miss."""
    nothing = final.new_zeros(1)
    if model.norm_place is None:
        return
    places: list[tuple[str, Seen]] = []
    for index, block in enumerate(plan.blocks):
        if model.norm_place == "pre":
            places += [(f"blocks.{index}.norm_attention", block.attention), (f"blocks.{index}.norm_ffn", block.ffn)]
        else:
            places += [(f"blocks.{index - 1}.norm_ffn", block.attention)] if index else []
            places.append((f"blocks.{index}.norm_attention", block.ffn))
    last = "norm" if model.norm_place == "pre" else f"blocks.{model.depth - 1}.norm_ffn"
    for name, seen in (*places, (last, plan.final)):
        for kind, value in (("weight", seen.weight), ("bias", seen.bias)):
            if value is not None:
                yield f"{name}.{kind}", value, nothing, nothing
    if not plan.own_final:
        wanted = target.output.weight.detach().to(final) @ plan.final.goal_shift
        shift = hidden_shift(final, wanted)
        yield f"{last}.bias", shift, final @ shift - wanted, wanted
