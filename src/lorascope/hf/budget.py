"""How large an adapter may be, and the one rank that fills it."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import SpecError
from .pairs import Pair
from .spectrum import Spectrum

__all__ = ["DEFAULT_RANK", "Budget", "copies", "rank_for_error", "rank_for_parameters", "sides"]

DEFAULT_RANK = 64


@dataclass(frozen=True)
class Budget:
    """What was asked for; at most one of the three.

    Attributes:
        rank: entries of all A and B as if every matrix had this rank.
        parameters: entries of all A and B.
        max_error: relative Frobenius error of all differences together, weighted where there are weights.
        hung: of ``parameters``, those of factors that are zero, which only carry a bias.
    """

    rank: int | None = None
    parameters: int | None = None
    max_error: float | None = None
    hung: int = 0

    def __post_init__(self) -> None:
        options = (("--rank", self.rank), ("--params", self.parameters), ("--max-error", self.max_error))
        given = [name for name, value in options if value is not None]
        if len(given) > 1:
            raise SpecError(f"only one of --rank, --params and --max-error can be asked for, got {' and '.join(given)}")
        if self.rank is not None and self.rank < 1:
            raise SpecError(f"--rank must be at least 1, got {self.rank}")
        if self.parameters is not None and self.parameters < 1:
            raise SpecError(f"--params must be at least 1, got {self.parameters}")
        if self.max_error is not None and not 0 < self.max_error < 1:
            raise SpecError(f"--max-error must lie between 0 and 1, got {self.max_error}")

    def uniform(self, factors: Sequence[Pair]) -> int:
        """The rank of every matrix that the entries allow.

        Raises:
            SpecError: not even rank 1 fits.
        """
        if self.parameters is not None:
            return rank_for_parameters(factors, self.parameters, self.hung)
        return self.rank or DEFAULT_RANK

    def entries(self, factors: Sequence[Pair]) -> int | None:
        """Of all A and B that are not zero; None where nothing was said of them."""
        if self.parameters is not None:
            return self.parameters - self.hung
        return None if self.rank is None else self.rank * sum(sides(pair) for pair in factors)


def rank_for_parameters(factors: Sequence[Pair], parameters: int, hung: int = 0) -> int:
    """The largest uniform rank whose factors have, beside some that are zero, at most that many entries.

    Raises:
        SpecError: not even rank 1 fits.
    """
    each = sum(sides(pair) for pair in factors)
    if parameters < each + hung:
        least = f"{each + hung:,} (rank 1 everywhere)"
        raise SpecError(f"--params must be at least {least}, got {parameters:,}; ask for more")
    return (parameters - hung) // each if each else 1


def rank_for_error(spectra: Sequence[Spectrum], error: float) -> int:
    """The least uniform rank at which all differences together are off by at most a relative Frobenius error.

    Args:
        spectra: of every matrix; values below their floors are never kept.
        error: relative, of all together.

    Raises:
        SpecError: rounding of the stored weights alone leaves more.
    """
    total = sum(spectrum.norm**2 for spectrum in spectra)
    most = max((spectrum.rank for spectrum in spectra), default=1)

    def left(rank: int) -> float:
        return sum(max(spectrum.norm**2 - spectrum.captured(rank), 0.0) for spectrum in spectra)

    low, high = 1, most
    if left(high) > error**2 * total * (1 + 1e-9):
        least = (left(high) / total) ** 0.5
        raise SpecError(
            f"--max-error must be at least {least:.3g}, got {error}: the rest is rounding of the stored weights, "
            f"or beyond the singular values that are computed; allow more"
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if left(middle) <= error**2 * total * (1 + 1e-9) else (middle + 1, high)
    return low


def sides(pair: Pair) -> int:
    """Entries of A and B together at rank 1, as often as the file holds them."""
    count = pair.shape[0] if pair.kind == "expert" else copies(pair)
    return count * (pair.shape[-1] + pair.shape[-2])


def copies(pair: Pair) -> int:
    """How often a file holds what is carried of a matrix, or of a module whole: once for each name that shares it."""
    return 1 + len(pair.slot.tied)
