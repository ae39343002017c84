"""Where refinement of transformers starts: truncations in closed form, and what is already known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

from ...linalg import truncate
from ...models import Adapter
from ...shapes import Float
from .transformer_products import Effective, hidden_values
from .transformer_space import Corrections, ProductSpace

__all__ = [
    "Moments",
    "align_hidden",
    "corrections_of",
    "moments_of",
    "permute_heads",
    "stack",
    "start_from_truncation",
    "woken",
]

# Entries of a factor that meets a zero factor, as in the usual initialisation of LoRA.
SPREAD = 0.25
# Directions in which tokens hardly vary count as if they varied by this share of the largest deviation.
FLOOR = 1e-2
# Rounds of alternating between the heads' corrections and the feed-forward matrix they share.
ROUNDS = 10


@dataclass(frozen=True)
class Moments:
    """Of the target's tokens: ``z = h + t`` of the block before, or the input; the last ones are ``h_L``.

    Attributes:
        means: (width,) for every block, then for ``h_L``.
        centred: symmetric square root of the covariance, floored: (width, width).
        plain: likewise of the second moments.
    """

    means: Sequence[Float[Tensor, " width"]]
    centred: Sequence[Float[Tensor, "width width"]]
    plain: Sequence[Float[Tensor, "width width"]]


def moments_of(target: Effective, inputs: Float[Tensor, "batch seq width"]) -> Moments:
    """Moments of the tokens that ``target`` (one member) sees on ``inputs``."""
    hidden = [value[0] for value in hidden_values(target, inputs)]
    tokens = [inputs, *(value + shift for value, shift in zip(hidden, target.shifts, strict=False)), hidden[-1]]
    means, centred, plain = [], [], []
    for value in tokens:
        rows = value.reshape(-1, value.shape[-1])
        means.append(rows.mean(0))
        centred.append(_root((rows - means[-1]).T @ (rows - means[-1]) / len(rows)))
        plain.append(_root(rows.T @ rows / len(rows)))
    return Moments(means, centred, plain)


def _root(moment: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(moment)
    root = values.clamp(min=0).sqrt()
    least = FLOOR * root.max()
    return (vectors * root.clamp(min=float(least) if least > 0 else 1.0)) @ vectors.T


def start_from_truncation(space: ProductSpace, target: Effective, moments: Moments) -> Corrections:
    """Every product corrected towards the target's by the best approximation of its rank, weighted by moments.

    Args:
        space, target: in float64; target with one member.
        moments: of the target's tokens.

    Returns:
        Corrections with a members axis of 1; biases make up for the mean of what truncation leaves out.
    """
    found: Corrections = {}
    for index in range(space.depth):
        score, _ = space.bare(index, {})
        wanted = target.scores[index][0]
        used = target.values[index][0].abs().amax((1, 2)) > 0  # scores of a head that contributes nothing are free
        gaps = (wanted - score[0]) * used[:, None, None]
        rank = space.ranks[f"{index}.score"]
        found |= _stacked(
            f"{index}.score", [_weighted(gap, moments.centred[index], moments.plain[index], rank) for gap in gaps]
        )
        found |= _start_values(space, index, target, moments)
        if index:
            found[f"{index}.shift"] = target.shifts[index - 1].clone()
    weight, mean = moments.centred[-1], moments.means[-1]
    wanted = target.final[0] - space.final
    left, right = _weighted(wanted, None, weight, space.ranks["final"])
    found |= {"final.left": left[None], "final.right": right[None]}
    found["offset"] = target.offset + (wanted - left @ right) @ mean
    return _completed(space, found)


def _start_values(space: ProductSpace, index: int, target: Effective, moments: Moments) -> Corrections:
    """Corrections of ``B``, and the one of ``W_1`` that all heads share, by alternating between the two."""
    mean, weight = moments.means[index], moments.centred[index]
    gap = target.values[index][0] - space.bare(index, {})[1][0]
    own, shared = space.ranks[f"{index}.value"], space.ranks[f"{index}.ffn_in"]
    through = space.values[index] if not index else space.values[index] @ space.ffn_out[index - 1]
    seen = torch.cat([one @ weight for one in through], dim=1)
    pairs = [_weighted(one, None, weight, own) for one in gap]
    left, right, missing = gap.new_zeros(len(mean), 0), gap.new_zeros(0, len(mean)), gap
    for _ in range(ROUNDS if shared else 0):
        rest = torch.cat([(one - u @ v) @ weight for one, (u, v) in zip(gap, pairs, strict=True)], dim=1)
        left, right = _regressed(rest, seen, shared)
        missing = gap - left @ right @ through
        pairs = [_weighted(one, None, weight, own) for one in missing]
    left_out = torch.stack([(one - u @ v) @ mean for one, (u, v) in zip(missing, pairs, strict=True)]).sum(0)
    found = _stacked(f"{index}.value", pairs) | {f"{index}.bias": target.biases[index] + left_out}
    return found | {f"{index}.ffn_in.left": left[None], f"{index}.ffn_in.right": right[None]}


def _stacked(part: str, pairs: Sequence[tuple[Tensor, Tensor]]) -> Corrections:
    width = max(left.shape[1] for left, _ in pairs)
    pad = torch.nn.functional.pad
    left = torch.stack([pad(one, (0, width - one.shape[1])) for one, _ in pairs])
    right = torch.stack([pad(one, (0, 0, 0, width - len(one))) for _, one in pairs])
    return {f"{part}.left": left[None], f"{part}.right": right[None]}


def _weighted(matrix: Tensor, before: Tensor | None, after: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The rank-``rank`` ``T`` nearest to ``matrix`` in the norm of ``before (matrix - T) after``."""
    left, right = truncate((matrix if before is None else before @ matrix) @ after, rank)
    left = left if before is None else torch.linalg.solve(before, left)
    return left, torch.linalg.solve(after, right, left=False)


def _regressed(wanted: Float[Tensor, "out n"], seen: Float[Tensor, "inp n"], rank: int) -> tuple[Tensor, Tensor]:
    """The rank-``rank`` ``T`` with the least ``|wanted - T seen|`` (reduced-rank regression)."""
    full = torch.linalg.lstsq(seen.T, wanted.T, driver="gelsd").solution.T
    directions = torch.linalg.svd(full @ seen, full_matrices=False).U[:, :rank]
    return directions, directions.T @ full


def corrections_of(space: ProductSpace, network: Effective, adapters: Mapping[str, Adapter]) -> Corrections:
    """The corrections that make the frozen model the given ``network`` of the same space.

    Args:
        space: in float64.
        network: one member.
        adapters: its adapters by parameter name, of which the feed-forward ones are needed.
    """
    found: Corrections = {}
    for index in range(space.depth):
        for name in ("ffn_in", "ffn_out"):
            adapter = adapters.get(f"blocks.{index}.{name}.weight")
            if adapter is not None and f"{index}.{name}" in space.ranks:
                found[f"{index}.{name}.left"] = adapter.B.detach().double()[None]
                found[f"{index}.{name}.right"] = adapter.A.detach().double()[None]
    for index in range(space.depth):
        score, value = space.bare(index, found)
        for part, gap in (("score", network.scores[index] - score), ("value", network.values[index] - value)):
            rank = space.ranks[f"{index}.{part}"]
            found |= _stacked(f"{index}.{part}", [truncate(one, rank) for one in gap[0]])
        found[f"{index}.bias"] = network.biases[index]
        if index:
            found[f"{index}.shift"] = network.shifts[index - 1]
    left, right = truncate(network.final[0] - space.final, space.ranks["final"])
    found |= {"final.left": left[None], "final.right": right[None], "offset": network.offset}
    return _completed(space, found)


def _completed(space: ProductSpace, found: Corrections) -> Corrections:
    """In the order and with the ranks of the space; columns that are not there stay zero."""
    done: Corrections = {}
    for name, shape in space.shapes().items():
        value = found.get(name)
        if value is None or value.shape[1:] != shape:
            full = space.final.new_zeros(1, *shape)
            if value is not None:
                full[..., : value.shape[-2], : value.shape[-1]] = value
            value = full
        done[name] = value
    return done


def woken(given: Corrections, generator: torch.Generator) -> Corrections:
    """Random rows for right factors that meet columns of zeros, which no gradient would ever leave otherwise."""
    done = dict(given)
    for name, right in given.items():
        if not name.endswith(".right"):
            continue
        left = given[name.removesuffix("right") + "left"]
        asleep = (left.abs().amax(-2) + right.abs().amax(-1)) == 0
        drawn = torch.randn(right.shape, generator=generator, dtype=right.dtype, device=generator.device)
        done[name] = torch.where(asleep[..., None], SPREAD * drawn.to(right.device), right)
    return done


def stack(members: Sequence[Corrections]) -> Corrections:
    """One batch of all members of all batches."""
    return {name: torch.cat([one[name] for one in members]) for name in members[0]}


def permute_heads(target: Effective, orders: Sequence[Sequence[int]]) -> Effective:
    """The same function with the heads of every block in another order."""
    scores = [value[:, list(order)] for value, order in zip(target.scores, orders, strict=True)]
    values = [value[:, list(order)] for value, order in zip(target.values, orders, strict=True)]
    return replace(target, scores=scores, values=values)


def align_hidden(target: Effective, space: ProductSpace, moments: Moments) -> Effective:
    """The same function with hidden units in the order that resembles the frozen model's most.

    One assignment problem a block, from the rows of ``B`` and the columns of what reads them.
    """
    for index in range(space.depth):
        _, value = space.bare(index, {})
        likeness = sum(
            ours @ moments.centred[index] @ (theirs @ moments.centred[index]).T
            for ours, theirs in zip(value[0], target.values[index][0], strict=True)
        )
        assert isinstance(likeness, Tensor)
        order = scipy.optimize.linear_sum_assignment(-np.asarray(likeness.cpu()))[1]
        target = _reorder(target, index, torch.as_tensor(order, device=likeness.device))
    return target


def _reorder(target: Effective, index: int, order: Tensor) -> Effective:
    scores, values, biases, shifts = map(list, (target.scores, target.values, target.biases, target.shifts))
    values[index], biases[index] = values[index][:, :, order], biases[index][:, order]
    final = target.final
    if index < len(scores) - 1:
        shifts[index] = shifts[index][:, order]
        scores[index + 1] = scores[index + 1][:, :, order][..., order]
        values[index + 1] = values[index + 1][..., order]
    else:
        final = final[..., order]
    return Effective(scores, values, biases, shifts, final, target.offset)
