"""Everything that adapters of given ranks can make of a transformer's products, as factors to optimise."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models import TransformerNetwork
from ...shapes import Float
from .transformer_products import Effective

__all__ = ["Corrections", "ProductSpace", "product_space"]

# Name of a part of the parametrisation -> its value, members in front.
Corrections = dict[str, Tensor]


@dataclass(frozen=True)
class ProductSpace:
    """The networks reached from a frozen one, as low-rank corrections of its products.

    With ``F = W_1 + dF``, ``M = W_2 + dM`` of the block before: ``A_h = M^T W_K^T W_Q M + (rank R_Q + R_K)``,
    ``B_h = F W_O W_V M + (rank R_V + R_O)``, ``C = W_o W_2L + (rank R_2L + R_o)``. Where frozen matrices are
    non-singular, adapters of these ranks reach exactly this. Biases ``b``, shifts ``t`` and the offset ``c`` are free.

    Attributes:
        scores: ``W_K^T W_Q``, block by block, (heads, width, width).
        values: ``W_O W_V``, likewise.
        ffn_in: ``W_1``, (width, width) each.
        ffn_out: ``W_2`` of every block but the last.
        final: ``W_o W_2L``.
        ranks: part -> rank of its correction: "0.score", "0.value", "0.ffn_in", "0.ffn_out", ..., "final".

    Source: Zeng & Lee 2024, Lemma 1 without its condition on partial sums, for every product of Theorem 7.
    """

    scores: tuple[Float[Tensor, "heads width width"], ...]
    values: tuple[Float[Tensor, "heads width width"], ...]
    ffn_in: tuple[Float[Tensor, "width width"], ...]
    ffn_out: tuple[Float[Tensor, "width width"], ...]
    final: Float[Tensor, "width width"]
    ranks: Mapping[str, int]

    @property
    def depth(self) -> int:
        return len(self.scores)

    def to(self, dtype: torch.dtype) -> "ProductSpace":
        """The same in another dtype."""
        cast = lambda values: tuple(value.to(dtype) for value in values)  # noqa: E731
        lists = [cast(values) for values in (self.scores, self.values, self.ffn_in, self.ffn_out)]
        return ProductSpace(lists[0], lists[1], lists[2], lists[3], self.final.to(dtype), self.ranks)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape without the members axis, in the order parameters are kept; parts of rank 0 are left out."""
        heads, width = self.scores[0].shape[:2]
        found: dict[str, tuple[int, ...]] = {}
        for part, rank in self.ranks.items():
            if rank:
                front = (heads,) if part.endswith(("score", "value")) else ()
                found[f"{part}.left"] = (*front, width, rank)
                found[f"{part}.right"] = (*front, rank, width)
        for index in range(self.depth):
            found[f"{index}.bias"] = (width,)
        for index in range(1, self.depth):
            found[f"{index}.shift"] = (width,)
        return found | {"offset": (width,)}

    def inner(self, index: int, given: Mapping[str, Tensor]) -> Tensor:
        """``M``, the second feed-forward matrix of block ``index``: (members or 1, width, width)."""
        return _added(self.ffn_out[index][None], f"{index}.ffn_out", given)

    def first(self, index: int, given: Mapping[str, Tensor]) -> Tensor:
        """``F``, the first feed-forward matrix of block ``index``: (members or 1, width, width)."""
        return _added(self.ffn_in[index][None], f"{index}.ffn_in", given)

    def bare(self, index: int, given: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """``A`` and ``B`` of a block before their own corrections: (members or 1, heads, width, width)."""
        score = self.scores[index][None]
        value = self.first(index, given)[:, None] @ self.values[index]
        if index:
            inner = self.inner(index - 1, given)[:, None]
            score, value = inner.mT @ score @ inner, value @ inner
        return score, value

    def compose(self, given: Mapping[str, Tensor]) -> Effective:
        """The products with their corrections, every member."""
        scores, values = [], []
        members = len(given["offset"])
        for index in range(self.depth):
            score, value = self.bare(index, given)
            scores.append(_added(score, f"{index}.score", given).expand(members, -1, -1, -1))
            values.append(_added(value, f"{index}.value", given).expand(members, -1, -1, -1))
        final = _added(self.final[None], "final", given).expand(members, -1, -1)
        biases = [given[f"{index}.bias"] for index in range(self.depth)]
        shifts = [given[f"{index}.shift"] for index in range(1, self.depth)]
        return Effective(scores, values, biases, shifts, final, given["offset"])


def _added(matrix: Tensor, part: str, given: Mapping[str, Tensor]) -> Tensor:
    left = given.get(f"{part}.left")
    return matrix if left is None else matrix + left @ given[f"{part}.right"]


def product_space(frozen: TransformerNetwork, ranks: Mapping[str, int]) -> ProductSpace:
    """The networks that adapters of ``ranks`` (parameter name -> rank) make of ``frozen``, in float64.

    Ranks beyond the width count as the width.
    """
    width, depth = frozen.embed_dim, frozen.depth
    scores, values, ffn_in, ffn_out, allowed = [], [], [], [], {}
    for index, block in enumerate(frozen.layers):
        query, key, value, out = (getattr(block, name).detach().double() for name in ("query", "key", "value", "out"))
        scores.append(key.mT @ query)
        values.append(out @ value)
        ffn_in.append(block.ffn_in.weight.detach().double())
        ffn_out.append(block.ffn_out.weight.detach().double())
        of = lambda *names, index=index: min(sum(ranks[f"blocks.{index}.{name}"] for name in names), width)  # noqa: E731
        allowed |= {f"{index}.score": of("query", "key"), f"{index}.value": of("value", "out")}
        allowed |= {f"{index}.ffn_in": of("ffn_in.weight")}
        if index < depth - 1:
            allowed |= {f"{index}.ffn_out": of("ffn_out.weight")}
    output = frozen.output.weight.detach().double()
    last = f"blocks.{depth - 1}.ffn_out.weight"
    allowed["final"] = min(ranks[last] + ranks["output.weight"], width)
    return ProductSpace(tuple(scores), tuple(values), tuple(ffn_in), tuple(ffn_out[:-1]), output @ ffn_out[-1], allowed)
