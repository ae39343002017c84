"""One rank for a whole model, with its reason."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from .spectrum import Spectrum

__all__ = ["Cost", "Recommendation", "adapter_parameters", "recommend_by_energy"]

RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""For which the report says what an adapter would cost."""


@dataclass(frozen=True)
class Cost:
    """An adapter of one rank.

    Attributes:
        rank: of every matrix, less where a matrix has no more above its floor.
        energy: share kept of the sum of squares above the floors.
        parameters: entries of all A and B.
    """

    rank: int
    energy: float
    parameters: int


@dataclass(frozen=True)
class Recommendation:
    """A rank, and why.

    Attributes:
        rank: recommended; 0 where nothing changed; None where more would be needed than was computed.
        reason: in words.
        costs: of the ranks around it.
        divergences: rank and KL to the tuned model on the texts, in nats, where there were any; rank 0 is the base.
    """

    rank: int | None
    reason: str
    costs: list[Cost]
    divergences: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])


def adapter_parameters(matrices: Sequence[tuple[tuple[int, int], Spectrum]], rank: int) -> int:
    """Entries of A and B where each matrix gets ``rank``, or what it has above its floor if that is less."""
    return sum(min(rank, spectrum.rank) * sum(shape) for shape, spectrum in matrices)


def recommend_by_energy(matrices: Sequence[tuple[tuple[int, int], Spectrum]], tolerance: float) -> Recommendation:
    """The least uniform rank that keeps a share ``1 - tolerance^2`` of the energy above the floors, all together.

    Args:
        matrices: shape (out, in) and spectrum of the difference of each.
        tolerance: relative Frobenius error of all differences together, without what lies below the floors.
    """
    total = sum(spectrum.energy for _, spectrum in matrices)
    if total == 0:
        return Recommendation(0, "no matrix differs by more than the rounding of its storage", [])
    most = max(spectrum.rank for _, spectrum in matrices)

    def share(rank: int) -> float:
        return math.fsum(spectrum.captured(rank) for _, spectrum in matrices) / total

    wanted = 1 - tolerance**2
    rank = next((r for r in range(1, most + 1) if share(r) >= wanted * (1 - 1e-12)), None)
    shown = sorted({r for r in RANKS if r <= most} | ({rank} if rank else set()) | {most})
    costs = [Cost(r, share(r), adapter_parameters(matrices, r)) for r in shown]
    if rank is None:
        reason = f"more than the {most} leading singular values that were computed of the largest matrices are needed"
        return Recommendation(None, reason, costs)
    reason = (
        f"by energy: the least rank that keeps {100 * wanted:.4g} % of the squared differences above the rounding of "
        f"the stored weights; the model's outputs may need less"
    )
    return Recommendation(rank, reason, costs)
