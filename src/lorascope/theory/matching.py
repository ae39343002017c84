"""What has to be matched: a target network, seen as products of frozen weights that must become other matrices."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..linalg import NumericalRank, numerical_rank, product
from ..models import FNN, TransformerNetwork
from ..shapes import Float
from .pair import coarser_dtype
from .partition import Partition
from .requirements import Requirement, singular_requirements

__all__ = ["Match", "fnn_matches", "padded_biases", "transformer_matches"]


@dataclass(frozen=True)
class Match:
    """Adapted factors must satisfy ``left @ (W_n + D_n) ... (W_1 + D_1) @ right = wanted``.

    The ends ``left`` and ``right`` are fixed; they are identities except where only part of the product matters
    (a target narrower than the frozen model) or where it is seen through other frozen weights (transformers).

    Attributes:
        names: parameter name of each factor, the one acting first, first.
        weights: (n, out, inp), the frozen factors in float64; square unless there is only one.
        left: (m, out), of full row rank unless frozen weights are singular.
        right: (inp, k), of full column rank likewise.
        wanted: (m, k).
        head: index into the heads axis of the parameters, None where they have none.
        transposed: whether a factor stands in the product as the parameter's transpose.
        unit_left, unit_right: (m, m) and (k, k): below the threshold the error is measured as
            ``unit_left^{-1} error unit_right^{-1}``; None is the identity.
        dtype: of the models, for the tolerance of ranks.
    """

    names: tuple[str, ...]
    weights: Float[Tensor, "n out inp"]
    left: Float[Tensor, "m out"]
    right: Float[Tensor, "inp k"]
    wanted: Float[Tensor, "m k"]
    head: int | None = None
    transposed: tuple[bool, ...] = ()
    unit_left: Float[Tensor, "m m"] | None = None
    unit_right: Float[Tensor, "k k"] | None = None
    dtype: torch.dtype = torch.float64

    @cached_property
    def error(self) -> Float[Tensor, "m k"]:
        """``wanted`` minus what the frozen product gives."""
        return self.wanted - self.left @ product(list(self.weights)) @ self.right

    @cached_property
    def gap(self) -> NumericalRank:
        """Rank of :attr:`error`: what the adapters' ranks must add up to."""
        return numerical_rank(self.error, scale=self._scale, terms=len(self.weights) + 2, dtype=self.dtype)

    @cached_property
    def requirements(self) -> list[Requirement]:
        """What singular factors ask for beyond the gap; empty where all are non-singular, and for a single factor."""
        if len(self.names) == 1:
            return []
        return singular_requirements(self.weights, self.left, self.right, self.wanted, self.dtype)

    @cached_property
    def _needs(self) -> dict[tuple[int, int], int]:
        """Factors (start, stop) -> least sum of their ranks."""
        needs = {(0, len(self.names)): self.gap.rank}
        for asked in self.requirements:
            needs[asked.start, asked.stop] = max(asked.rank, needs.get((asked.start, asked.stop), 0))
        return needs

    @property
    def least_cap(self) -> int:
        """Least rank which, given to every factor, closes the gap."""
        return max(-(-rank // (stop - start)) for (start, stop), rank in self._needs.items())

    @property
    def least_ranks(self) -> tuple[int, ...]:
        """Least ranks factor by factor: smallest maximum, then smallest sum, spread evenly, larger ones first."""
        ranks = [0] * len(self.names)
        for (start, stop), needed in sorted(self._needs.items(), key=lambda item: item[0][1] - item[0][0]):
            while sum(ranks[start:stop]) < needed:
                ranks[min(range(start, stop), key=lambda index: ranks[index])] += 1
        return tuple(ranks)

    def closed_by(self, ranks: tuple[int, ...]) -> bool:
        """Whether these ranks suffice, by the counting above."""
        return all(sum(ranks[start:stop]) >= rank for (start, stop), rank in self._needs.items())

    @cached_property
    def _scale(self) -> float:
        """Spectral norm of what the error was computed from: of ``wanted`` and of each partial product."""
        norm = lambda matrix: float(torch.linalg.matrix_norm(matrix, 2))  # noqa: E731
        partial, total = self.right, norm(self.wanted)
        for weight in (*self.weights, self.left):
            total = max(total, norm(weight) * norm(partial))
            partial = weight @ partial
        return total


def fnn_matches(frozen: FNN, target: FNN, partition: Partition) -> list[Match]:
    """One match for each group of frozen layers.

    ReLU networks: group ``i`` imitates target layer ``i``; a target narrower than the frozen model asks for the
    leading block only, the other outputs being switched off by a bias. Identity networks: one group of all layers
    imitates the product of the target's layers, and the other outputs must be zero.

    Source: Zeng & Lee 2024, Theorems 3 and 6; the narrow target departs from their zero-padding, which asks for more.
    """
    width, dtype = frozen.width, coarser_dtype(frozen, target)
    weights = torch.stack([layer.weight.detach().double() for layer in frozen.linears])
    goals = [layer.weight.detach().to(weights) for layer in target.linears]
    eye = torch.eye(width, dtype=weights.dtype, device=weights.device)
    if frozen.activation == "identity":
        composed = product(goals)
        goals = [torch.cat([composed, composed.new_zeros(width - composed.shape[0], composed.shape[1])])]
    return [
        Match(
            names=tuple(f"layers.{layer}.weight" for layer in group),
            weights=weights[list(group)],
            left=eye[: goal.shape[0]],
            right=eye[:, : goal.shape[1]],
            wanted=goal,
            dtype=dtype,
        )
        for group, goal in zip(partition, goals, strict=True)
    ]


def padded_biases(frozen: FNN, target: FNN) -> list[Float[Tensor, " _"]]:
    """What has to be added after each group's matched product: the target's biases, composed for identity networks."""
    like = frozen.linears[0].weight.detach().double()
    if target.activation == "relu":
        zeros = [like.new_zeros(layer.weight.shape[0]) for layer in target.linears]
        return [
            zero if layer.bias is None else layer.bias.detach().to(like)
            for zero, layer in zip(zeros, target.linears, strict=True)
        ]
    total = like.new_zeros(target.linears[0].weight.shape[1])
    for layer in target.linears:
        total = layer.weight.detach().to(like) @ total
        if layer.bias is not None:
            total = total + layer.bias.detach().to(like)
    return [torch.cat([total, total.new_zeros(frozen.width - len(total))])]


def transformer_matches(frozen: TransformerNetwork, target: TransformerNetwork) -> list[Match]:
    """Two matches for each head of each block and one for the output, all products of two frozen matrices.

    They are written in the coordinates of the ReLU outputs ``h`` of the block before (of the input for the first
    block): the frozen model carries ``W_2 h + b_2`` where the target carries the same with its own matrix, so
    ``W_K^T W_Q`` is seen between ``W_2^T`` and ``W_2``, and ``W_O W_V`` between ``W_1`` and ``W_2``. Heads the target
    does not have must contribute zero; so must hidden units beyond the target's width.

    Source: Zeng & Lee 2024, Theorem 7 and its gaps ``G_i``; fewer heads and a narrower embedding are not treated there.
    """
    width, narrow, dtype = frozen.embed_dim, target.embed_dim, coarser_dtype(frozen, target)
    like = frozen.output.weight.detach().double()
    eye = torch.eye(width, dtype=like.dtype, device=like.device)
    seen, seen_target, unit = eye[:, :narrow], eye[:narrow, :narrow], None
    matches = []
    for index, (block, goal) in enumerate(zip(frozen.layers, target.layers, strict=True)):
        query, key, value, out = (getattr(block, name).detach().double() for name in ("query", "key", "value", "out"))
        wanted = [getattr(goal, name).detach().to(like) for name in ("query", "key", "value", "out")]
        ffn_in, ffn_in_target = block.ffn_in.weight.detach().double(), goal.ffn_in.weight.detach().to(like)
        prefix = f"blocks.{index}"
        for head in range(frozen.num_heads):
            if head < target.num_heads:
                matches.append(
                    Match(
                        names=(f"{prefix}.query", f"{prefix}.key"),
                        weights=torch.stack([query[head], key[head].T]),
                        left=seen.T,
                        right=seen,
                        wanted=seen_target.T @ wanted[1][head].T @ wanted[0][head] @ seen_target,
                        head=head,
                        transposed=(False, True),
                        unit_left=None if unit is None else unit.T,
                        unit_right=unit,
                        dtype=dtype,
                    )
                )
                composed = ffn_in_target @ wanted[3][head] @ wanted[2][head] @ seen_target
            else:
                composed = like.new_zeros(narrow, narrow)
            matches.append(
                Match(
                    names=(f"{prefix}.value", f"{prefix}.out"),
                    weights=torch.stack([value[head], out[head]]),
                    left=ffn_in,
                    right=seen,
                    wanted=torch.cat([composed, like.new_zeros(width - narrow, narrow)]),
                    head=head,
                    transposed=(False, False),
                    unit_right=unit,
                    dtype=dtype,
                )
            )
        seen = block.ffn_out.weight.detach().double()[:, :narrow]
        seen_target = goal.ffn_out.weight.detach().to(like)
        unit = seen_target if _well_conditioned(seen_target) else None
    final = target.output.weight.detach().to(like) @ seen_target
    matches.append(
        Match(
            names=(f"blocks.{frozen.depth - 1}.ffn_out.weight", "output.weight"),
            weights=torch.stack([frozen.layers[-1].ffn_out.weight.detach().double(), like]),
            left=eye,
            right=eye[:, :narrow],
            wanted=torch.cat([final, like.new_zeros(width - narrow, narrow)]),
            transposed=(False, False),
            dtype=dtype,
        )
    )
    return matches


def _well_conditioned(matrix: Tensor) -> bool:
    return numerical_rank(matrix, scale=1e4 * float(matrix.abs().max())).rank == len(matrix)
