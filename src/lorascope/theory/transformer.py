"""The paper's transformer: rank-based functionality gaps, and the rank that closes them."""

from torch import Tensor

from ..errors import ShapeError
from ..models import TransformerNetwork
from .linear import difference_rank

__all__ = ["theorem7_gaps", "theorem7_rank"]


def theorem7_gaps(frozen: TransformerNetwork, target: TransformerNetwork) -> tuple[int, ...]:
    """``G_1, ..., G_{L+1}``: one gap for every block and one for the output layer.

    With ``M = I`` for both networks in block 1 and ``M = W_{2,i-1}``, each network's own, in block ``i``, ``G_i`` is
    the largest over heads of ``rank(Mbar^T Wbar_K^T Wbar_Q Mbar - M^T W_K^T W_Q M)`` and
    ``rank(Wbar_1 Wbar_O Wbar_V Mbar - W_1 W_O W_V M)``; ``G_{L+1} = rank(Wbar_o Wbar_2L - W_o W_2L)``.

    Args:
        frozen: the network to adapt.
        target: one of the same width, heads and depth.

    Returns:
        ``L + 1`` ranks, each at most ``D``.

    Raises:
        ShapeError: networks of two sizes.

    Source: Zeng & Lee 2024, Section 4, before Theorem 7. Cost O(L H D^3).

    >>> same = TransformerNetwork(4, 2, 3)
    >>> theorem7_gaps(same, same)
    (0, 0, 0, 0)
    """
    sizes = [{name: tuple(value.shape) for name, value in net.named_parameters()} for net in (frozen, target)]
    if sizes[0] != sizes[1]:
        came = [f"depth {net.depth}, {net.num_heads} heads, width {net.embed_dim}" for net in (frozen, target)]
        raise ShapeError(f"Theorem 7 compares networks of one size, got frozen {came[0]} and target {came[1]}")
    gaps = []
    for block in range(frozen.depth):
        given, wanted = _products(frozen, block), _products(target, block)
        gaps.append(max(difference_rank(old, new).rank for old, new in zip(given, wanted, strict=True)))
    last, wanted_last = ([net.layers[-1].ffn_out.weight, net.output.weight] for net in (frozen, target))
    return (*gaps, difference_rank(last, wanted_last).rank)


def theorem7_rank(frozen: TransformerNetwork, target: TransformerNetwork) -> int:
    """``ceil(max_i G_i / 2)``; at most ``ceil(D / 2)``.

    Args:
        frozen: the network to adapt.
        target: one of the same width, heads and depth.

    Returns:
        A rank of all adapters (attention, last feed-forward and output matrix) that makes the networks equal on
        every input, bounded or not.

    Raises:
        ShapeError: networks of two sizes.

    Source: Zeng & Lee 2024, Theorem 7, under its non-singularity assumption. Cost O(L H D^3).

    >>> theorem7_rank(TransformerNetwork(5, 1, 1), TransformerNetwork(5, 1, 1))
    3
    """
    return -(-max(theorem7_gaps(frozen, target)) // 2)


def _products(network: TransformerNetwork, block: int) -> list[list[Tensor]]:
    # chains, first factor first: scores and values of each head, in the coordinates before the last W_2
    layer = network.layers[block]
    inner = [network.layers[block - 1].ffn_out.weight] if block else []
    outer = [weight.mT for weight in inner]
    chains = []
    for query, key, value, out in zip(layer.query, layer.key, layer.value, layer.out, strict=True):
        chains += [[*inner, query, key.mT, *outer], [*inner, value, out, layer.ffn_in.weight]]
    return chains
