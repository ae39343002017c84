"""Transformers: the paper's (no skip connection, no normalisation), and with everything it leaves out."""

from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import ShapeError, SpecError
from ..shapes import Float

__all__ = ["Block", "NormPlace", "TransformerNetwork"]

NormPlace = Literal["pre", "post"]


class Block(nn.Module):
    """``Z -> W_2 ReLU(W_1 Attn(Z) + b_1) + b_2`` with ``Attn(Z) = sum_h W_O W_V Z softmax(Z^T W_K^T W_Q Z)``.

    With skip connections ``Y = Z + Attn(Z)``, then ``Y + FFN(Y)``; a normalisation stands before attention and
    feed-forward layer (``"pre"``) or after each sum (``"post"``).

    Attributes:
        query, key, value: (heads, head_dim, embed), one matrix a head.
        out: (heads, embed, head_dim).
        query_bias, key_bias, value_bias: (heads, head_dim), and ``out_bias``: (embed,); None without attention biases.
        ffn_in, ffn_out: ``W_1, b_1`` (ffn_dim, embed) and ``W_2, b_2`` (embed, ffn_dim).
        norm_attention, norm_ffn: None without normalisation.
    """

    query_bias: nn.Parameter | None
    key_bias: nn.Parameter | None
    value_bias: nn.Parameter | None
    out_bias: nn.Parameter | None
    norm_attention: nn.LayerNorm | None
    norm_ffn: nn.LayerNorm | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        head_dim: int,
        ffn_dim: int,
        *,
        attention_bias: bool,
        residual: bool,
        norm: NormPlace | None,
        dtype: torch.dtype,
        device: torch.device | None,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.norm_place: NormPlace | None = norm

        def empty(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, dtype=dtype, device=device))

        self.query = empty(num_heads, head_dim, embed_dim)
        self.key = empty(num_heads, head_dim, embed_dim)
        self.value = empty(num_heads, head_dim, embed_dim)
        self.out = empty(num_heads, embed_dim, head_dim)
        for name in ("query_bias", "key_bias", "value_bias"):
            self.register_parameter(name, empty(num_heads, head_dim) if attention_bias else None)
        self.register_parameter("out_bias", empty(embed_dim) if attention_bias else None)
        self.ffn_in = _linear(embed_dim, ffn_dim, True, dtype, device)
        self.ffn_out = _linear(ffn_dim, embed_dim, True, dtype, device)
        self.norm_attention = None if norm is None else _norm(embed_dim, dtype, device)
        self.norm_ffn = None if norm is None else _norm(embed_dim, dtype, device)

    def attention(self, tokens: Float[Tensor, "*batch seq embed"]) -> Float[Tensor, "*batch seq embed"]:
        heads = tokens.unsqueeze(-3)  # *batch 1 seq embed
        query, key, value = (heads @ weight.mT for weight in (self.query, self.key, self.value))
        if self.query_bias is not None and self.key_bias is not None and self.value_bias is not None:
            query, key, value = (  # *batch heads seq head_dim
                part + bias[:, None, :]
                for part, bias in ((query, self.query_bias), (key, self.key_bias), (value, self.value_bias))
            )
        attend = (query @ key.mT).softmax(dim=-1)  # *batch heads seq(query) seq(key)
        mixed = (attend @ value @ self.out.mT).sum(dim=-3)
        return mixed if self.out_bias is None else mixed + self.out_bias

    def feed_forward(self, tokens: Float[Tensor, "*batch seq embed"]) -> Float[Tensor, "*batch seq embed"]:
        return self.ffn_out(torch.relu(self.ffn_in(tokens)))

    def forward(self, tokens: Float[Tensor, "*batch seq embed"]) -> Float[Tensor, "*batch seq embed"]:
        for layer, norm in ((self.attention, self.norm_attention), (self.feed_forward, self.norm_ffn)):
            update = layer(norm(tokens) if norm is not None and self.norm_place == "pre" else tokens)
            tokens = tokens + update if self.residual else update
            tokens = norm(tokens) if norm is not None and self.norm_place == "post" else tokens
        return tokens


class TransformerNetwork(nn.Module):
    """``TFN(X) = W_o Z_L``, with ``Z_0 = X`` and ``Z_l`` the output of block ``l``.

    The defaults are the paper's network. Query, key, value and output matrices start as N(0, 1), normalisations as the
    identity, everything else as U(-1/sqrt(D), 1/sqrt(D)). Scores are not divided by sqrt(d); fold that into ``query``.

    Args:
        embed_dim: D.
        num_heads: H.
        depth: L, the number of blocks.
        head_dim: d, inner dimension of each head, at most D; default D.
        ffn_dim: F, hidden units of the feed-forward layers; default D.
        attention_bias: whether queries, keys, values and the attention's output have biases.
        residual: whether skip connections run around attention and feed-forward layer.
        norm: where the normalisations stand, if any; ``"pre"`` has one more before the output matrix.
        generator: where the random numbers come from; torch's own by default.
        dtype: float32 or float64.

    Raises:
        ShapeError: a size below 1, or heads wider than the embedding.
        SpecError: a place for the normalisations that does not exist.

    Source: Zeng & Lee 2024, Section 4, for the defaults. Tokens are rows here, columns in the paper.

    >>> TransformerNetwork(4, 2, 1)(torch.zeros(3, 5, 4, dtype=torch.float64)).shape
    torch.Size([3, 5, 4])
    >>> usual = TransformerNetwork(4, 2, 1, head_dim=2, ffn_dim=16, attention_bias=True, residual=True, norm="pre")
    >>> sorted(name for name, _ in usual.named_parameters() if "norm" in name)[-2:]
    ['norm.bias', 'norm.weight']
    """

    norm: nn.LayerNorm | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        depth: int,
        head_dim: int | None = None,
        ffn_dim: int | None = None,
        attention_bias: bool = False,
        residual: bool = False,
        norm: NormPlace | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        head_dim = embed_dim if head_dim is None else head_dim
        ffn_dim = embed_dim if ffn_dim is None else ffn_dim
        if min(embed_dim, num_heads, depth) < 1:
            raise ShapeError(
                f"a transformer needs embed_dim, num_heads and depth of at least 1, "
                f"got {embed_dim}, {num_heads}, {depth}"
            )
        if ffn_dim < 1 or not 1 <= head_dim <= embed_dim:
            raise ShapeError(
                f"a transformer needs head_dim from 1 to embed_dim ({embed_dim}) and ffn_dim of at least 1, "
                f"got {head_dim} and {ffn_dim}"
            )
        if norm not in (None, "pre", "post"):
            raise SpecError(f'norm must be None, "pre" or "post", got {norm!r}')
        device = generator.device if generator is not None else None
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                head_dim,
                ffn_dim,
                attention_bias=attention_bias,
                residual=residual,
                norm=norm,
                dtype=dtype,
                device=device,
            )
            for _ in range(depth)
        )
        self.norm = _norm(embed_dim, dtype, device) if norm == "pre" else None
        self.output = _linear(embed_dim, embed_dim, False, dtype, device)
        bound = embed_dim**-0.5
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if "norm" in name:
                    continue
                if parameter.ndim == 3:
                    parameter.normal_(generator=generator)
                else:
                    parameter.uniform_(-bound, bound, generator=generator)

    @property
    def layers(self) -> list[Block]:
        """The blocks, typed."""
        return [block for block in self.blocks if isinstance(block, Block)]

    @property
    def depth(self) -> int:
        return len(self.blocks)

    @property
    def num_heads(self) -> int:
        return self.layers[0].query.shape[0]

    @property
    def embed_dim(self) -> int:
        return self.output.weight.shape[1]

    @property
    def head_dim(self) -> int:
        return self.layers[0].query.shape[1]

    @property
    def ffn_dim(self) -> int:
        return self.layers[0].ffn_in.weight.shape[0]

    @property
    def attention_bias(self) -> bool:
        return self.layers[0].query_bias is not None

    @property
    def residual(self) -> bool:
        return self.layers[0].residual

    @property
    def norm_place(self) -> NormPlace | None:
        return self.layers[0].norm_place

    @property
    def is_paper_form(self) -> bool:
        """Whether it is the paper's network: square matrices, no skip, no normalisation, no attention biases."""
        square = (self.head_dim, self.ffn_dim) == (self.embed_dim, self.embed_dim)
        return square and not self.attention_bias and not self.residual and self.norm_place is None

    def forward(self, tokens: Float[Tensor, "*batch seq embed"]) -> Float[Tensor, "*batch seq embed"]:
        for block in self.layers:
            tokens = block(tokens)
        return self.output(tokens if self.norm is None else self.norm(tokens))


def _linear(inp: int, out: int, bias: bool, dtype: torch.dtype, device: torch.device | None) -> nn.Linear:
    # by way of the meta device, for torch's own init would draw from the global random state
    return nn.Linear(inp, out, bias=bias, dtype=dtype, device="meta").to_empty(device=device or "cpu")


def _norm(width: int, dtype: torch.dtype, device: torch.device | None) -> nn.LayerNorm:
    return nn.LayerNorm(width, dtype=dtype, device=device)
