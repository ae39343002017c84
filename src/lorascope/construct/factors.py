"""The two thin factors of every adapter in a product."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..linalg import svd
from ..shapes import Float

__all__ = ["Factors", "balance", "factor_differences"]


# Singular values of rank to spare at the start of a path, relative to the weight's.
SPARE = 1e-2


@dataclass(frozen=True)
class Factors:
    """``delta_l = left_l @ right_l`` for every factor of a product, first one acting first.

    Attributes:
        left: (out, rank_l) each.
        right: (rank_l, in) each.
    """

    left: tuple[Float[Tensor, "_ _"], ...]
    right: tuple[Float[Tensor, "_ _"], ...]

    @classmethod
    def trimmed(cls, left: Float[Tensor, "depth out rank"], right: Float[Tensor, "depth rank inp"]) -> "Factors":
        """From padded stacks, without the columns that stayed zero."""
        used = [torch.nonzero(b.abs().amax(0) * a.abs().amax(1))[:, 0] for b, a in zip(left, right, strict=True)]
        return cls(
            tuple(b[:, keep] for b, keep in zip(left, used, strict=True)),
            tuple(a[keep] for a, keep in zip(right, used, strict=True)),
        )

    def stacked(self, rank: int) -> tuple[Float[Tensor, "depth out rank"], Float[Tensor, "depth rank inp"]]:
        """Both factors padded with zeros to one rank."""
        pad = torch.nn.functional.pad
        return (
            torch.stack([pad(b, (0, rank - b.shape[1])) for b in self.left]),
            torch.stack([pad(a, (0, 0, 0, rank - a.shape[0])) for a in self.right]),
        )

    def deltas(self) -> list[Float[Tensor, "_ _"]]:
        return [b @ a for b, a in zip(self.left, self.right, strict=True)]

    def adapted(self, weights: Float[Tensor, "depth out inp"]) -> list[Float[Tensor, "out inp"]]:
        """The weights with the adapters added."""
        return [weight + delta for weight, delta in zip(weights, self.deltas(), strict=True)]

    def norm(self) -> float:
        """Largest spectral norm of a delta."""
        return max(float(torch.linalg.matrix_norm(delta, 2)) for delta in self.deltas())


def balance(
    left: Float[Tensor, "depth out rank"], right: Float[Tensor, "depth rank inp"]
) -> tuple[Float[Tensor, "depth out rank"], Float[Tensor, "depth rank inp"]]:
    """The same products ``left @ right`` with both factors of equal singular values (least sum of squares)."""
    left_basis, left_core = torch.linalg.qr(left)
    right_basis, right_core = torch.linalg.qr(right.mT)
    inner_left, values, inner_right = torch.linalg.svd(left_core @ right_core.mT, full_matrices=False)
    root = values.sqrt()
    return left_basis @ (inner_left * root[:, None]), (root[..., None] * inner_right) @ right_basis.mT


def factor_differences(
    adapted: Float[Tensor, "depth width width"], weights: Float[Tensor, "depth width width"], ranks: tuple[int, ...]
) -> tuple[Float[Tensor, "depth width rank"], Float[Tensor, "depth rank width"]]:
    """Balanced factors near ``adapted - weights``, padded with zeros to the largest rank.

    Exact but for rank to spare, which starts at 1 % of the weight instead of zero, where no step would ever wake it.
    """
    left, right = [], []
    sizes = torch.linalg.matrix_norm(weights, 2).tolist()
    for difference, rank, size in zip(adapted - weights, ranks, sizes, strict=True):
        u, values, v = svd(difference)
        root = values[:rank].clamp(min=SPARE * size).sqrt()
        left.append(u[:, :rank] * root)
        right.append(root[:, None] * v[:rank])
    return Factors(tuple(left), tuple(right)).stacked(max(ranks))
