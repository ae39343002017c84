"""The paper's transformer: D x D matrices per head, column softmax, no skip connection, no normalisation."""

import torch
from torch import Tensor, nn

from ..errors import ShapeError
from ..shapes import Float

__all__ = ["Block", "TransformerNetwork"]


class Block(nn.Module):
    """``Z -> W_2 ReLU(W_1 Attn(Z) + b_1) + b_2`` with ``Attn(Z) = sum_h W_O W_V Z softmax(Z^T W_K^T W_Q Z)``.

    Attributes:
        query, key, value, out: (heads, embed, embed), one matrix a head.
        ffn_in, ffn_out: ``W_1, b_1`` and ``W_2, b_2``.
    """

    def __init__(self, embed_dim: int, num_heads: int, dtype: torch.dtype, device: torch.device | None) -> None:
        super().__init__()
        shape = (num_heads, embed_dim, embed_dim)
        self.query = nn.Parameter(torch.empty(shape, dtype=dtype, device=device))
        self.key = nn.Parameter(torch.empty(shape, dtype=dtype, device=device))
        self.value = nn.Parameter(torch.empty(shape, dtype=dtype, device=device))
        self.out = nn.Parameter(torch.empty(shape, dtype=dtype, device=device))
        self.ffn_in = _linear(embed_dim, True, dtype, device)
        self.ffn_out = _linear(embed_dim, True, dtype, device)

    def attention(self, tokens: Float[Tensor, "*batch seq embed"]) -> Float[Tensor, "*batch seq embed"]:
        heads = tokens.unsqueeze(-3)  # *batch 1 seq embed
        query, key, value = (heads @ weight.mT for weight in (self.query, self.key, self.value))
        attend = (query @ key.mT).softmax(dim=-1)  # *batch heads seq(query) seq(key)
        return (attend @ value @ self.out.mT).sum(dim=-3)

    def forward(self, tokens: Float[Tensor, "*batch seq embed"]) -> Float[Tensor, "*batch seq embed"]:
        return self.ffn_out(torch.relu(self.ffn_in(self.attention(tokens))))


class TransformerNetwork(nn.Module):
    """``TFN(X) = W_o Z_L``, with ``Z_0 = X`` and ``Z_l`` the output of block ``l``.

    Query, key, value and output matrices start as N(0, 1), everything else as U(-1/sqrt(D), 1/sqrt(D)).

    Args:
        embed_dim: D.
        num_heads: H.
        depth: L, the number of blocks.
        generator: where the random numbers come from; torch's own by default.
        dtype: float32 or float64.

    Raises:
        ShapeError: a size below 1.

    Source: Zeng & Lee 2024, Section 4. Tokens are rows here, columns in the paper.

    >>> TransformerNetwork(4, 2, 1)(torch.zeros(3, 5, 4, dtype=torch.float64)).shape
    torch.Size([3, 5, 4])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        depth: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if min(embed_dim, num_heads, depth) < 1:
            raise ShapeError(
                f"a transformer needs embed_dim, num_heads and depth of at least 1, "
                f"got {embed_dim}, {num_heads}, {depth}"
            )
        device = generator.device if generator is not None else None
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, dtype, device) for _ in range(depth))
        self.output = _linear(embed_dim, False, dtype, device)
        bound = embed_dim**-0.5
        with torch.no_grad():
            for parameter in self.parameters():
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

    def forward(self, tokens: Float[Tensor, "*batch seq embed"]) -> Float[Tensor, "*batch seq embed"]:
        for block in self.layers:
            tokens = block(tokens)
        return self.output(tokens)


def _linear(width: int, bias: bool, dtype: torch.dtype, device: torch.device | None) -> nn.Linear:
    # by way of the meta device, for torch's own init would draw from the global random state
    return nn.Linear(width, width, bias=bias, dtype=dtype, device="meta").to_empty(device=device or "cpu")
