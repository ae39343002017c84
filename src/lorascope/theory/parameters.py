"""How many numbers each way of adapting trains."""

from collections.abc import Sequence

from ..errors import RankError, ShapeError

__all__ = ["last_layers_parameters", "lora_parameters", "transformer_parameters"]


def lora_parameters(width: int, ranks: Sequence[int], bias: bool = False) -> int:
    """``2 D (R_1 + ... + R_L)``, and ``D L`` for the biases; ``2 D R L`` when all ranks are ``R``.

    Args:
        width: ``D``.
        ranks: ``R_l``, one a layer.
        bias: whether the biases are trained too.

    Raises:
        ShapeError: a width below 1, or no layer.
        RankError: a negative rank.

    Source: Zeng & Lee 2024, Section 3. Cost O(L).

    >>> lora_parameters(16, [2, 2, 1])
    160
    """
    if width < 1 or not ranks:
        raise ShapeError(f"a width and a number of layers of at least 1, got {width} and {len(ranks)}")
    if min(ranks) < 0:
        raise RankError(f"ranks are at least 0, got {list(ranks)}")
    return 2 * width * sum(ranks) + bias * width * len(ranks)


def last_layers_parameters(width: int, layers: int, bias: bool = False) -> int:
    """``D^2 k``, and ``D k`` for the biases: tuning the last ``k`` layers in full.

    Args:
        width: ``D``.
        layers: ``k``, how many are tuned.
        bias: whether the biases are trained too.

    Raises:
        ShapeError: a width below 1, or a negative number of layers.

    Source: Zeng & Lee 2024, Section 3.4 (after Lemma 4). Cost O(1).

    >>> last_layers_parameters(16, 7)
    1792
    """
    if width < 1 or layers < 0:
        raise ShapeError(f"a width of at least 1 and layers of at least 0, got {width} and {layers}")
    return (width + bias) * width * layers


def transformer_parameters(embed_dim: int, num_heads: int, depth: int, rank: int, bias: bool = False) -> int:
    """``2 D R (4 H L + 2)``, and ``2 D L`` for the biases: what Theorem 7 adapts.

    That is query, key, value and output matrix of every head, the last feed-forward matrix and the output layer.

    Args:
        embed_dim: ``D``.
        num_heads: ``H``.
        depth: ``L``, blocks.
        rank: ``R``, of every adapter.
        bias: whether the feed-forward biases are trained too, as exactness needs.

    Raises:
        ShapeError: a size below 1.
        RankError: a negative rank.

    Source: Zeng & Lee 2024, Theorem 7. Cost O(1).

    >>> transformer_parameters(16, 2, 1, 8, bias=True)
    2592
    """
    if min(embed_dim, num_heads, depth) < 1:
        raise ShapeError(f"embed_dim, num_heads and depth of at least 1, got {embed_dim}, {num_heads}, {depth}")
    if rank < 0:
        raise RankError(f"a rank is at least 0, got {rank}")
    return 2 * embed_dim * rank * (4 * num_heads * depth + 2) + bias * 2 * embed_dim * depth
