"""Feed-forward adapters that bring a frozen transformer into shape before its attention is matched."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..linalg import svd
from ..models import Adapter, TransformerNetwork, merge
from ..shapes import Float
from ..theory import Match, transformer_matches

__all__ = ["condition_feed_forward"]

# Relative singular values between the frozen and the target matrix are left alone within this factor of their mean.
SPREAD = 3.0


def condition_feed_forward(
    frozen: TransformerNetwork, target: TransformerNetwork, ranks: Mapping[str, int]
) -> tuple[dict[str, Adapter], list[Match]]:
    """Adapters on feed-forward matrices, within ``ranks``, after which attention needs smaller ones.

    The goals of the attention products contain ``Wbar_2 W_2^{-1}`` and ``W_1^{-1} Wbar_1``, whose condition is that
    of both matrices multiplied. A rank-r change replaces their r most extreme singular values by the mean one.
    Nothing is changed where the products could then no longer be matched within the ranks.

    Returns:
        The adapters, possibly none, and the matches of the model with them.

    Source: new. Zeng & Lee 2024, Theorem 7, leaves feed-forward matrices frozen (give ``ranks`` without them for that).
    """
    plain = transformer_matches(frozen, target)
    if not all(_closed(match, ranks) for match in plain):
        return {}, plain
    found: dict[str, Adapter] = {}
    parameters, goals = dict(frozen.named_parameters()), dict(target.named_parameters())
    names = [f"blocks.{index}.ffn_in.weight" for index in range(frozen.depth)]
    names += [f"blocks.{index}.ffn_out.weight" for index in range(frozen.depth - 1)]
    for name in names:
        weight, goal = parameters[name].detach(), goals[name].detach().to(parameters[name])
        if ranks[name] == 0:
            continue
        padded = torch.eye(len(weight), dtype=torch.float64, device=weight.device)
        padded[: len(goal), : len(goal)] = goal.double()
        transpose = name.endswith("ffn_in.weight")
        left, right = _tamed(_flip(weight.double(), transpose), _flip(padded, transpose), ranks[name])
        if left.shape[1]:
            b, a = (right.T, left.T) if transpose else (left, right)
            found[name] = Adapter(A=a.to(weight.dtype), B=b.to(weight.dtype))
    matches = transformer_matches(merge(frozen, found), target)
    return (found, matches) if all(_closed(match, ranks) for match in matches) else ({}, plain)


def _tamed(
    weight: Float[Tensor, "width width"], goal: Float[Tensor, "width width"], rank: int
) -> tuple[Float[Tensor, "width r"], Float[Tensor, "r width"]]:
    """Low-rank change of ``weight`` that narrows the singular values of ``weight goal^{-1}``."""
    ratio, failed = torch.linalg.solve_ex(goal, weight, left=False)
    if failed or not torch.isfinite(ratio).all():
        return weight[:, :0], weight[:0]
    left, values, right = svd(ratio)
    logs = values.clamp(min=torch.finfo(values.dtype).tiny).log()
    middle = logs.median()
    extreme = (logs - middle).abs()
    order = extreme.argsort(descending=True)[:rank]
    chosen = order[extreme[order] > torch.tensor(SPREAD).log()]
    change = middle.exp() - values[chosen]
    return left[:, chosen] * change, right[chosen] @ goal


def _flip(matrix: Tensor, transpose: bool) -> Tensor:
    return matrix.T if transpose else matrix


def _closed(match: Match, ranks: Mapping[str, int]) -> bool:
    return match.closed_by(tuple(ranks[name] for name in match.names))
