"""The ways an adapted network can act: consecutive frozen layers as one layer, or each with its own ReLU."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product as combinations

from torch import Tensor

from ...linalg import product
from ...models import FNN
from ...shapes import Float
from ...theory import Partition

__all__ = ["Family", "families"]

# Families tried at most; those with few kept groups come first.
LARGEST = 8


@dataclass(frozen=True, eq=False)
class Family:
    """Groups of frozen layers, each of which acts as one layer ``ReLU((P + B A) z + b)``.

    A group of several layers has its hidden ReLUs made active by biases and reaches every ``P + B A`` with
    ``rank(B A)`` at most the sum of its ranks (Lemma 1'), so nothing is lost by treating it as one layer.

    Attributes:
        groups: of frozen layers, counted from 0.
        runs: which groups imitate each target layer, counted from 0.
        weights: ``P`` of each group, (out, inp), in float64; its leading block where the target is narrower.
        ranks: of each group's correction.
    """

    groups: Partition
    runs: tuple[tuple[int, ...], ...]
    weights: tuple[Float[Tensor, "_ _"], ...]
    ranks: tuple[int, ...]

    @property
    def name(self) -> str:
        """The sizes of the groups, run by run: ``2 | 1+1`` linearises the first two layers and keeps the others."""
        return " | ".join("+".join(str(len(self.groups[group])) for group in run) for run in self.runs)


def families(frozen: FNN, target: FNN, ranks: Mapping[str, int], partition: Partition) -> list[Family]:
    """For every group of the partition both choices: linearised as a whole, or every ReLU kept.

    A target narrower than the frozen network has only the first: kept hidden units have the frozen width.

    Args:
        frozen, target: ReLU networks.
        ranks: parameter name -> cap.
        partition: one group of frozen layers for each target layer.
    """
    narrow = {layer.weight.shape for layer in target.linears} != {layer.weight.shape for layer in frozen.linears}
    divisible = [index for index, group in enumerate(partition) if len(group) > 1 and not narrow]
    count = len(divisible)
    if 2**count <= LARGEST:
        choices = sorted(combinations((False, True), repeat=count), key=sum)
    else:  # none, all, and one at a time, the last first
        alone = [tuple(index == kept for index in range(count)) for kept in reversed(range(count))]
        choices = [(False,) * count, (True,) * count, *alone]
    return [
        _family(
            frozen, target, ranks, partition, [index for index, keep in zip(divisible, choice, strict=True) if keep]
        )
        for choice in choices[:LARGEST]
    ]


def _family(frozen: FNN, target: FNN, ranks: Mapping[str, int], partition: Partition, kept: list[int]) -> Family:
    groups: list[tuple[int, ...]] = []
    runs, weights, sums = [], [], []
    for index, group in enumerate(partition):
        parts = [(layer,) for layer in group] if index in kept else [group]
        runs.append(tuple(range(len(groups), len(groups) + len(parts))))
        groups += parts
        out, inp = target.linears[index].weight.shape
        for part in parts:
            whole = product([frozen.linears[layer].weight.detach().double() for layer in part])
            block = whole[:out, :inp] if len(parts) == 1 else whole
            weights.append(block)
            sums.append(min(sum(ranks[f"layers.{layer}.weight"] for layer in part), *block.shape))
    return Family(tuple(groups), tuple(runs), tuple(weights), tuple(sums))
