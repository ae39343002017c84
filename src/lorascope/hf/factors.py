"""One matrix's difference as two thin factors."""

import hashlib
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..linalg import Leading, leading
from ..shapes import Float
from .pairs import Pair
from .spectrum import difference_and_floor
from .weights import Weights, weighted_truncation

__all__ = ["Factors", "cut", "factorise", "settled"]


@dataclass(frozen=True)
class Factors:
    """``B A`` close to a difference; stacked experts have a leading axis.

    Attributes:
        A: (r, inp), or (experts, r, inp).
        B: (out, r), or (experts, out, r).
        norm: Frobenius norm of the difference.
        residual: of the difference minus ``B A``, before the factors are cast.
        floor: singular values up to here may be rounding; none of them is kept. Weighted where the values are.
        values: (r,), singular values of what was truncated: of the difference, or of the weighted one; experts' are
            their root sum of squares.
        total: Frobenius norm of what was truncated.
        weighted: there were weights.
        shift: (out,), what the bias takes up: ``(difference - B A) E[x]``; None where there is none.
    """

    A: Float[Tensor, "... r inp"]
    B: Float[Tensor, "... out r"]
    norm: float
    residual: float
    floor: float
    values: Float[Tensor, " r"]
    total: float
    weighted: bool = False
    shift: Float[Tensor, " out"] | None = None

    @property
    def rank(self) -> int:
        return self.A.shape[-2]

    @property
    def left_over(self) -> float:
        """Of what was truncated, in its own norm."""
        return math.sqrt(max(self.total**2 - float(self.values.double().square().sum()), 0.0))


def factorise(pair: Pair, rank: int, device: str = "cpu", weights: Weights | None = None) -> Factors:
    """The best factors of at most a rank, without what the rounding of the weights alone would make.

    ``B A = LR_r(W' - W)``, or the best under weights; both factors of a direction have one norm.

    Args:
        pair: a matrix that both models have.
        rank: at most this; fewer where fewer singular values lie above the floor.
        device: where the products run.
        weights: of both sides; None: all directions count alike. Not for stacked experts.

    Returns:
        The factors, float32, on the CPU; weighted ones with the residual not yet measured (``settled`` does).

    Source: Eckart & Young 1936. Cost O(out inp (r + 8)) a few times over, one matrix of each model in memory.
    """
    # drawn from the name, so that neither the order nor a restart changes a bit
    seed = int.from_bytes(hashlib.sha256(pair.name.encode()).digest()[:7], "big")
    generator = torch.Generator().manual_seed(seed)
    difference, floors = _difference(pair)
    if weights is not None:
        return _weighted(difference, floors[0], rank, weights, generator, device)
    if difference.dim() == 2:
        return _one(difference, floors[0], rank, generator, device)
    parts = [_one(part, floor, rank, generator, device) for part, floor in zip(difference, floors, strict=True)]
    most = max(part.rank for part in parts)
    values = torch.stack([torch.nn.functional.pad(part.values, (0, most - part.rank)) for part in parts])
    norm = math.hypot(*(part.norm for part in parts))
    return Factors(
        torch.stack([torch.nn.functional.pad(part.A, (0, 0, 0, most - part.rank)) for part in parts]),
        torch.stack([torch.nn.functional.pad(part.B, (0, most - part.rank)) for part in parts]),
        norm,
        math.hypot(*(part.residual for part in parts)),
        max(part.floor for part in parts),
        torch.linalg.vector_norm(values.double(), dim=0),
        norm,
    )


def cut(factors: Factors, rank: int) -> Factors:
    """The leading directions alone."""
    if rank >= factors.rank:
        return factors
    dropped = float(factors.values[rank:].double().square().sum())
    residual = factors.residual if factors.weighted else math.sqrt(factors.residual**2 + dropped)
    A, B = factors.A[..., :rank, :].contiguous(), factors.B[..., :rank].contiguous()
    return replace(factors, A=A, B=B, residual=residual, values=factors.values[:rank])


def settled(pair: Pair, factors: Factors, mean: Float[Tensor, " inp"] | None) -> Factors:
    """With the residual measured, and what the bias takes up.

    Args:
        pair: the matrix.
        factors: of its difference.
        mean: ``E[x]`` of its inputs; None: no bias takes up anything.
    """
    rest = pair.difference(torch.float64).sub_(factors.B.double() @ factors.A.double())
    shift = None if mean is None else (rest @ mean).float()
    return replace(factors, residual=float(torch.linalg.vector_norm(rest)), shift=shift)


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
    return Factors(A, B, found.norm, _residual(found, keep), floor, found.values[:keep].double().cpu(), found.norm)


def _weighted(
    difference: Tensor, floor: float, rank: int, weights: Weights, generator: torch.Generator, device: str
) -> Factors:
    norm = float(torch.linalg.vector_norm(difference, dtype=torch.float64))
    moved = Weights(weights.left.to(device), weights.right.to(device))
    found = weighted_truncation(difference.to(device), moved, rank, generator)
    noise = weights.noise(floor)
    keep = int((found.values > noise).sum())
    A, B = found.A[:keep].float().cpu(), found.B[:, :keep].float().cpu()
    # the residual in the plain norm is measured once the rank is known
    return Factors(A, B, norm, norm, noise, found.values[:keep].cpu(), found.norm, weighted=True)


def _residual(found: Leading, keep: int) -> float:
    dropped = float(found.values[keep:].double().square().sum())
    return math.sqrt(found.residual**2 + dropped)
