"""Where a model keeps the queries, keys, values and outputs of its attention heads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from .pairs import Pair

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Attention", "Part", "attentions"]

# suffixes of query, key, value and output below a common module
_SEPARATE = (
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("q_proj", "k_proj", "v_proj", "out_proj"),
    ("q", "k", "v", "o"),
    ("self.query", "self.key", "self.value", "output.dense"),
    ("q_lin", "k_lin", "v_lin", "out_lin"),
)
_FUSED = (("c_attn", "c_proj"),)  # query, key and value stacked in thirds


@dataclass(frozen=True)
class Part:
    """One of the four matrices, perhaps a block of rows of a fused one."""

    pair: Pair
    third: int | None = None

    def of(self, value: Tensor) -> Tensor:
        """The block of a matrix oriented (out, in)."""
        return value if self.third is None else value.chunk(3)[self.third]

    def values(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Base and tuned, (out, in)."""
        pair = self.pair
        return self.of(pair.oriented(pair.base(dtype))), self.of(pair.oriented(pair.tuned(dtype)))


@dataclass(frozen=True)
class Attention:
    """The heads of one module.

    Attributes:
        name: the module's.
        query, key, value, out: its matrices.
        heads, groups: query heads, and key-value heads that groups of them share.
        head_dim: rows of a head.
    """

    name: str
    query: Part
    key: Part
    value: Part
    out: Part
    heads: int
    groups: int
    head_dim: int

    def factors(self, product: Literal["query-key", "value-output"]) -> tuple[Part, Part]:
        """The two matrices of a product, the one that acts first in front."""
        return (self.query, self.key) if product == "query-key" else (self.value, self.out)


def attentions(model: "PreTrainedModel", pairs: Sequence[Pair]) -> list[Attention]:
    """Every attention whose matrices have names that are known; none for the others.

    Args:
        model: its configuration says how many heads there are.
        pairs: all matrices.
    """
    modules = {pair.module: pair for pair in pairs if pair.kind in {"linear", "conv1d"} and pair.load_base is not None}
    found: list[Attention] = []
    config = model.config.get_text_config() if not model.config.is_encoder_decoder else model.config
    heads = getattr(config, "num_attention_heads", None)
    if not isinstance(heads, int) or heads <= 0:  # a list where layers differ
        return found
    for module, pair in modules.items():
        for names in _SEPARATE:
            if module.endswith(f".{names[0]}"):
                above = module.removesuffix(names[0])
                parts = [modules.get(f"{above}{name}") for name in names]
                found += _attention(above.rstrip("."), [part and Part(part) for part in parts], heads)
        for fused, out in _FUSED:
            if module.endswith(f".{fused}"):
                above, last = module.removesuffix(fused), modules.get(f"{module.removesuffix(fused)}{out}")
                thirds = [Part(pair, third) for third in range(3)]
                found += _attention(above.rstrip("."), [*thirds, last and Part(last)], heads)
    return found


def _attention(name: str, parts: Sequence[Part | None], heads: int) -> list[Attention]:
    """One, or none where a part is missing or its rows do not divide into heads."""
    present = [part for part in parts if part is not None]
    if len(present) < len(parts):
        return []
    query, key, value, out = present
    rows = [_rows(part) for part in (query, key, value)]
    if rows[0] % heads or rows[1] != rows[2]:
        return []
    head_dim = rows[0] // heads
    groups, rest = divmod(rows[1], head_dim)
    columns = out.pair.shape[0 if out.pair.slot.transposed else 1]
    if rest or groups == 0 or heads % groups or columns != rows[0]:
        return []
    return [Attention(name, query, key, value, out, heads, groups, head_dim)]


def _rows(part: Part) -> int:
    rows = part.pair.shape[1 if part.pair.slot.transposed else 0]
    return rows if part.third is None else rows // 3
