"""What it costs to share one adapter among all heads, as is usual practice."""

from ..errors import ShapeError

__all__ = ["stacked_rank"]


def stacked_rank(embed_dim: int, num_heads: int, head_dim: int | None = None) -> int:
    """Least ``R >= min(d, ceil(D / 2))`` with ``H (2 m n - m^2) <= 2 R n`` for ``n = D - R`` and ``m = min(n, d)``.

    This is a count, not a theorem. Adapters of rank R on the stacked query matrices (H d, D) and on the stacked keys
    leave subspaces N and M of dimension n alone: 2 R n freedoms. Each head's gauge then has to satisfy 2 d n
    conditions; for n <= d it can iff ``M^T (Wbar_K^T Wbar_Q - W_K^T W_Q) N = 0``, which are n^2, else it meets d^2.
    Likewise values and outputs. That is ``R >= D (1 - 1 / sqrt(2 H))`` for ``H d = D``, ``R >= D H / (H + 2)`` for
    ``d = D``. Generic weights meet the count; singular or related ones may need more or less.

    Args:
        embed_dim: ``D``; where tokens are normalised first, the dimension D - 1 they lie in.
        num_heads: ``H``.
        head_dim: ``d``; default ``D``.

    Raises:
        ShapeError: a size below 1, or heads wider than the embedding.

    Source: new; Zeng & Lee 2024 give every head its own adapter. Cost O(D).

    >>> [stacked_rank(*sizes) for sizes in ((4, 2, 2), (6, 2, 3), (6, 3, 2), (768, 12, 64))]
    [2, 3, 4, 612]
    >>> stacked_rank(7, 6), stacked_rank(4, 1)  # one head: nothing is shared
    (6, 2)
    """
    head_dim = embed_dim if head_dim is None else head_dim
    if min(embed_dim, num_heads, head_dim) < 1 or head_dim > embed_dim:
        raise ShapeError(
            f"embed_dim, num_heads and head_dim of at least 1, head_dim at most embed_dim, "
            f"got {embed_dim}, {num_heads}, {head_dim}"
        )
    least, most = min(head_dim, -(-embed_dim // 2)), min(num_heads * head_dim, embed_dim)

    def fits(rank: int) -> bool:
        left = embed_dim - rank
        met = min(left, head_dim)
        return num_heads * (2 * met * left - met**2) <= 2 * rank * left

    return next(rank for rank in range(least, most + 1) if rank == most or fits(rank))
