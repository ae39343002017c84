"""The rank a frozen model needs to become a target exactly."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from ..models import FNN, TransformerNetwork, weight_names
from .fnn import theorem3_rank
from .matching import Match, fnn_matches, transformer_matches
from .narrow import NarrowMatch
from .pair import Model, check_pair
from .partition import Partition, best_partition, search_partition
from .transformer import theorem7_rank
from .variants import plan_variant

__all__ = ["Gap", "Need", "find_partition", "matches_for", "rank_needed"]


@dataclass(frozen=True)
class Gap:
    """What one group of weights has to make up together.

    Attributes:
        group: names of the parameters whose adapters' ranks add up; with a head index in brackets where they have
            a heads axis, as in ``"blocks.0.query[1]"``.
        rank: numerical rank of the difference between what is wanted of their product and what it is.
        tolerance: singular values of that difference below this, absolute, count as zero.
    """

    group: tuple[str, ...]
    rank: int
    tolerance: float


@dataclass(frozen=True)
class Need:
    """The LoRA-ranks with which a frozen model becomes a target exactly.

    Attributes:
        uniform: least rank which, given to every adapter, is enough, over all partitions of the layers.
        paper_uniform: the paper's number: Theorem 3's on its uniform partition, or Theorem 7's; None for forms of
            transformers that the paper does not treat.
        per_layer: rank layer by layer, smallest maximum first, then smallest total; for a transformer the largest
            rank in each block, then the output's (of the paper's form: in each block's attention, then that of the
            output's two matrices).
        per_parameter: parameter name -> rank; as ``ranks=`` of :func:`lorascope.adapt` it gives an exact adaptation.
        gaps: one for each group of layers, or for each product of a transformer.
        partition: which frozen layers imitate which target layer, counted from 0; None for transformers.
    """

    uniform: int
    paper_uniform: int | None
    per_layer: tuple[int, ...]
    per_parameter: dict[str, int]
    gaps: list[Gap]
    partition: Partition | None


def rank_needed(frozen: Model, target: Model) -> Need:
    """Least LoRA-ranks for ``f = target``: ``min_P max_i ceil(rank(Wbar_i - prod_{l in P_i} W_l) / |P_i|)``.

    Identity networks are compared by their products, so depth counts fully: ``ceil(rank(E) / L)``. Singular frozen
    weights raise the number: every run of layers must be able to reach the rank wanted of its group. Products alone are
    counted: that biases can make up the rest, and that frozen matrices a product is seen through (a transformer's
    feed-forward ones) are regular, is taken for granted. A target
    narrower than the frozen model needs only the leading block of each product. Transformers with skips,
    normalisations, attention biases, narrow heads or wide hidden layers: see :func:`.variants.plan_variant`; with a
    stream to keep, feed-forward and output matrices are matched one by one.

    Args:
        frozen: FNN or TransformerNetwork; left as it is.
        target: of the same kind, no deeper, no wider.

    Returns:
        The ranks, and the gaps with the tolerances they were found at.

    Raises:
        ShapeError: models that cannot be compared.
        SpecError: weights that are not finite.

    Source: Zeng & Lee 2024, Lemma 1, Theorems 3, 6 and 7, without the condition on partial sums; the search over
    partitions, singular weights, narrow targets and other transformers are not treated there. Cost O(Lbar L^2) SVDs.

    >>> import torch
    >>> frozen, target = FNN(4, 2), FNN(4, 1)
    >>> rank_needed(frozen, target).uniform
    2
    """
    check_pair(frozen, target)
    partition = find_partition(frozen, target) if isinstance(frozen, FNN) and isinstance(target, FNN) else None
    matches = matches_for(frozen, target, partition)
    per_parameter = dict.fromkeys(weight_names(frozen), 0)
    for match in matches:
        for name, rank in zip(match.names, match.least_ranks, strict=True):
            per_parameter[name] = max(per_parameter[name], rank)
    return Need(
        uniform=max((match.least_cap for match in matches), default=0),
        paper_uniform=_paper_uniform(frozen, target),
        per_layer=_per_layer(frozen, per_parameter),
        per_parameter=per_parameter,
        gaps=[Gap(_group(match), match.gap.rank, match.gap.tolerance) for match in matches],
        partition=partition,
    )


def matches_for(frozen: Model, target: Model, partition: Partition | None) -> Sequence[Match | NarrowMatch]:
    """The products that have to be matched; ``partition`` for FNNs."""
    if isinstance(frozen, FNN) and isinstance(target, FNN) and partition is not None:
        return fnn_matches(frozen, target, partition)
    assert isinstance(frozen, TransformerNetwork) and isinstance(target, TransformerNetwork)
    if frozen.is_paper_form and target.is_paper_form:
        return transformer_matches(frozen, target)
    return plan_variant(frozen, target).matches


def find_partition(frozen: FNN, target: FNN, ranks: Mapping[str, int] | None = None) -> Partition:
    """The partition of the smallest uniform rank, then of the smallest total.

    Where given ``ranks`` do not close every gap on it, the one whose error is least with them: of the least sum over
    groups of the squared singular values that the ranks leave out.
    """
    if frozen.activation == "identity":
        return (tuple(range(frozen.depth)),)

    @cache
    def match(group: int, start: int, stop: int) -> Match:
        single = FNN.from_weights([target.linears[group].weight.detach()])
        return fnn_matches(frozen, single, (tuple(range(start, stop)),))[0]

    def left_out(group: int, start: int, stop: int) -> float:
        assert ranks is not None
        found = match(group, start, stop)
        given = tuple(ranks[name] for name in found.names)
        return 0.0 if found.closed_by(given) else float(torch.linalg.svdvals(found.error)[sum(given) :].square().sum())

    _, best = best_partition(
        lambda *group: match(*group).least_cap,
        lambda *group: sum(match(*group).least_ranks),
        frozen.depth,
        target.depth,
    )
    if ranks is None or all(left_out(index, group[0], group[-1] + 1) == 0 for index, group in enumerate(best)):
        return best
    return search_partition(left_out, operator.add, frozen.depth, target.depth)[1]


def _paper_uniform(frozen: Model, target: Model) -> int | None:
    """The number as the paper states it: zero-padding for a smaller target."""
    if isinstance(frozen, FNN) and isinstance(target, FNN):
        width = frozen.width
        padded = []
        for layer in target.linears:
            out, inp = layer.weight.shape
            weight = layer.weight.detach().double().new_zeros(width, width)
            weight[:out, :inp] = layer.weight.detach()
            padded.append(weight)
        return theorem3_rank([layer.weight.detach().double() for layer in frozen.linears], padded)
    assert isinstance(frozen, TransformerNetwork) and isinstance(target, TransformerNetwork)
    if not (frozen.is_paper_form and target.is_paper_form):
        return None
    return theorem7_rank(frozen, _padded_transformer(frozen, target))


def _padded_transformer(frozen: TransformerNetwork, target: TransformerNetwork) -> TransformerNetwork:
    if (target.embed_dim, target.num_heads) == (frozen.embed_dim, frozen.num_heads):
        return target
    padded = TransformerNetwork(
        frozen.embed_dim,
        frozen.num_heads,
        frozen.depth,
        generator=torch.Generator(),
        dtype=frozen.output.weight.dtype,
    )
    values = dict(target.named_parameters())
    for name, parameter in padded.named_parameters():
        parameter.data.zero_()
        block = tuple(slice(0, size) for size in values[name].shape)
        parameter.data[block] = values[name].detach().to(parameter)
    return padded


def _per_layer(model: Model, per_parameter: dict[str, int]) -> tuple[int, ...]:
    if isinstance(model, FNN):
        return tuple(per_parameter.values())
    if not model.is_paper_form:
        largest = lambda prefix: max(rank for name, rank in per_parameter.items() if name.startswith(prefix))  # noqa: E731
        return (*(largest(f"blocks.{index}.") for index in range(model.depth)), per_parameter["output.weight"])
    attention = [
        max(rank for name, rank in per_parameter.items() if name.startswith(f"blocks.{index}.") and "ffn" not in name)
        for index in range(model.depth)
    ]
    last = max(per_parameter["output.weight"], per_parameter[f"blocks.{model.depth - 1}.ffn_out.weight"])
    return (*attention, last)


def _group(match: Match | NarrowMatch) -> tuple[str, ...]:
    return match.names if match.head is None else tuple(f"{name}[{match.head}]" for name in match.names)
