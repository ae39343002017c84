"""One matrix's difference as two thin factors."""

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..linalg import Leading, leading
from ..shapes import Float
from .pairs import Pair
from .spectrum import difference_and_floor

__all__ = ["Factors", "factorise"]


@dataclass(frozen=True)
class Factors:
    """``B A`` close to a difference; stacked experts have a leading axis.

    Attributes:
        A: (r, inp), or (experts, r, inp).
        B: (out, r), or (experts, out, r).
        norm: Frobenius norm of the difference.
        residual: of the difference minus ``B A``, before the factors are cast.
        floor: singular values up to here may be rounding; none of them is kept.
    """

    A: Float[Tensor, "... r inp"]
    B: Float[Tensor, "... out r"]
    norm: float
    residual: float
    floor: float

    @property
    def rank(self) -> int:
        return self.A.shape[-2]


def factorise(pair: Pair, rank: int, device: str = "cpu") -> Factors:
    """The best factors of at most a rank, without what the rounding of the weights alone would make.

    ``B A = LR_r(W' - W)``; both factors carry the square roots of the singular values.

    Args:
        pair: a matrix that both models have.
        rank: at most this; fewer where fewer singular values lie above the floor.
        device: where the products run.

    Returns:
        The factors, float32, on the CPU.

    Source: Eckart & Young 1936. Cost O(out inp (r + 8)) a few times over, one matrix of each model in memory.
    """
    # drawn from the name, so that neither the order nor a restart changes a bit
    seed = int.from_bytes(hashlib.sha256(pair.name.encode()).digest()[:7], "big")
    generator = torch.Generator().manual_seed(seed)
    difference, floors = _difference(pair)
    if difference.dim() == 2:
        return _one(difference, floors[0], rank, generator, device)
    parts = [_one(part, floor, rank, generator, device) for part, floor in zip(difference, floors, strict=True)]
    most = max(part.rank for part in parts)
    return Factors(
        torch.stack([torch.nn.functional.pad(part.A, (0, 0, 0, most - part.rank)) for part in parts]),
        torch.stack([torch.nn.functional.pad(part.B, (0, most - part.rank)) for part in parts]),
        math.hypot(*(part.norm for part in parts)),
        math.hypot(*(part.residual for part in parts)),
        max(part.floor for part in parts),
    )


def _difference(pair: Pair) -> tuple[Tensor, list[float]]:
    """The difference, oriented, and the floor of each matrix in it; two tensors of the pair's size at most."""
    if pair.load_change is not None:
        # as exact as the adapter's factors, whatever rounding its base has
        difference = pair.difference()
        parts = difference if difference.dim() == 3 else difference[None]
        eps = torch.finfo(pair.tuned_dtype).eps
        return difference, [2 * eps * float(torch.linalg.vector_norm(part)) for part in parts]
    assert pair.base_dtype is not None
    base, tuned = pair.oriented(pair.base(pair.base_dtype)), pair.oriented(pair.load_tuned())
    types = pair.base_dtype, pair.tuned_dtype
    if base.dim() == 2:
        difference, floor = difference_and_floor(base, tuned, types)
        return difference, [floor]
    parts = [difference_and_floor(old, new, types) for old, new in zip(base, tuned, strict=True)]
    return torch.stack([difference for difference, _ in parts]), [floor for _, floor in parts]


def _one(difference: Tensor, floor: float, rank: int, generator: torch.Generator, device: str) -> Factors:
    found = leading(difference.to(device), rank, generator)
    keep = int((found.values > floor).sum())
    root = found.values[:keep].sqrt()
    A = (found.right[:keep] / root[:, None]).cpu()
    B = (found.left[:, :keep] * root).cpu()
    return Factors(A, B, found.norm, _residual(found, keep), floor)


def _residual(found: Leading, keep: int) -> float:
    dropped = float(found.values[keep:].double().square().sum())
    return math.sqrt(found.residual**2 + dropped)
