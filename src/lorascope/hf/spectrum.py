"""The singular values of a difference, and which of them rounding alone would make."""

import math
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor

from ..linalg import leading, tolerance
from ..shapes import Float

__all__ = ["Spectrum", "difference_and_floor", "noise_floor", "spectrum", "unit_in_last_place"]

FULL = 2048  # smaller side up to which every singular value is computed at once
EXACT = 8192  # up to which they are where the leading ones do not reach the floor
LEADING = 256  # how many those are at first
_LONG = 1 << 24  # entries of a product at a time
_SLICE = 1 << 18  # entries at a time: they stay in the cache
_MARGIN = 7.0  # spreads of the largest value of pure noise; 6.3 was the most in 300 draws of each of several sizes
# digits of the significand behind the leading one
_BITS = {torch.float64: 52, torch.float32: 23, torch.float16: 10, torch.bfloat16: 7}
# the bits of the exponent, in an integer of the same size
_EXPONENTS = {torch.float32: (torch.int32, 0xFF << 23), torch.float64: (torch.int64, 0x7FF << 52)}


@dataclass(frozen=True)
class Spectrum:
    """Singular values of a difference.

    Attributes:
        values: largest first, float64; all of them, or as many leading ones as reach the floor (smaller side over
            2048), or as many as were computed (over 8192).
        norm: Frobenius norm of the difference.
        floor: singular values up to here may be rounding of the stored weights.
        complete: every value is there, or those missing lie below the floor.
        exact_rank: values above the rounding of the computation itself; at least that many where not complete, or
            where those missing lie below the floor.
        seconds: wall time of the singular values.
    """

    values: Float[Tensor, " k"]
    norm: float
    floor: float
    complete: bool
    exact_rank: int
    seconds: float = field(default=0.0, compare=False)

    @property
    def rank(self) -> int:
        """Values above the floor; at least that many where not complete."""
        return int((self.values > self.floor).sum())

    @property
    def energy(self) -> float:
        """Sum of squares of the values above the floor; those that are missing counted where not complete."""
        kept = float(self.values[: self.rank].square().sum())
        return kept if self.complete else max(kept, self.norm**2)

    @property
    def stable_rank(self) -> float:
        """``|Delta|_F^2 / |Delta|_2^2``."""
        top = float(self.values[0]) if len(self.values) else 0.0
        return self.norm**2 / top**2 if top > 0 else 0.0

    def captured(self, rank: int) -> float:
        """Sum of squares of the leading ``rank`` values that lie above the floor."""
        return float(self.values[: min(rank, self.rank)].square().sum())

    def epsilon_rank(self, epsilon: float) -> int | None:
        """Least ``r`` with ``|Delta - LR_r(Delta)|_F <= epsilon |Delta|_F``, both without what lies below the floor.

        None where more values than are known would be needed.
        """
        kept = torch.cat([self.values.new_zeros(1), self.values[: self.rank].square().cumsum(0)])
        # rounding of the sums themselves must not ask for one rank more
        enough = kept >= (1 - epsilon**2) * self.energy * (1 - tolerance(len(kept)))
        return int(enough.nonzero()[0]) if bool(enough.any()) else None


def unit_in_last_place(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Spacing of the numbers of ``dtype`` at each entry; 0 at 0.

    >>> unit_in_last_place(torch.tensor([1.0, 1.5, 2.0, 0.0]), torch.bfloat16).tolist()
    [0.0078125, 0.0078125, 0.015625, 0.0]
    """
    return _leading_digit(weight) * 2.0 ** -_BITS[dtype]


def _leading_digit(weight: Tensor) -> Tensor:
    """The largest power of two that is no larger than each entry's modulus, read off its exponent; 0 at 0."""
    whole, mask = _EXPONENTS[weight.dtype]
    return (weight.contiguous().view(whole) & mask).view(weight.dtype)


def noise_floor(
    base: Float[Tensor, "out inp"], tuned: Float[Tensor, "out inp"], dtypes: tuple[torch.dtype, torch.dtype]
) -> float:
    """The largest singular value that rounding both weights to their storage types makes.

    Each entry's rounding is uniform on one unit in the last place: ``s^2 = mean(ulp(W)^2 + ulp(W')^2) / 12``, and a
    matrix of independent entries of variance ``s^2`` has no singular value above about ``s (sqrt(m) + sqrt(n))``, which
    is raised by seven times the spread of the largest one: by a fifth at 32 x 32, by a hundredth at 4096 x 4096. Rows
    and columns that did not change at all are left out: there is no rounding either.

    Args:
        base, tuned: the two weights.
        dtypes: in which they are stored.

    Returns:
        The floor, in the unit of the singular values.

    Source: Marchenko-Pastur's edge, and the scale of Tracy & Widom's law around it (Johnstone 2001). It holds where the
    change is not much below one unit in the last place; there the true noise is smaller. Cost O(out inp).
    """
    return _compared(base, tuned, dtypes, None)


def difference_and_floor(
    base: Float[Tensor, "out inp"], tuned: Float[Tensor, "out inp"], dtypes: tuple[torch.dtype, torch.dtype]
) -> tuple[Float[Tensor, "out inp"], float]:
    """``W' - W`` in float32 and its ``noise_floor``, in one pass over weights as they are stored."""
    difference = torch.empty(base.shape)
    return difference, _compared(base, tuned, dtypes, difference)


def _compared(base: Tensor, tuned: Tensor, dtypes: tuple[torch.dtype, torch.dtype], into: Tensor | None) -> float:
    m, squares, present = 0, 0.0, 0.0
    columns = torch.zeros(base.shape[1], dtype=torch.bool, device=base.device)
    height = max(1, _SLICE // max(base.shape[1], 1))
    for start in range(0, len(base), height):
        both = [_computable(weight[start : start + height]) for weight in (base, tuned)]
        gap = both[1] - both[0]
        if into is not None:
            into[start : start + height] = gap
        rows, seen = (gap != 0).any(dim=1), (gap != 0).any(dim=0)
        m += int(rows.sum())
        columns |= seen
        present += float(torch.linalg.vector_norm(gap).double().square())
        for weight, dtype in zip(both, dtypes, strict=True):
            # columns without any change are few or none: their share is left in
            units = torch.linalg.vector_norm(_leading_digit(weight), dim=1)[rows].double() * 2.0 ** -_BITS[dtype]
            squares += float(units.square().sum())
    n = int(columns.sum())
    if m == 0 or n == 0:
        return 0.0
    # the noise cannot be larger than what is there
    variance = min(squares / (12 * m * base.shape[1]), present / (m * n))
    edge = math.sqrt(m) + math.sqrt(n)
    # the largest value spreads around the edge, by much in small matrices
    spread = (1 / math.sqrt(m) + 1 / math.sqrt(n)) ** (1 / 3) / edge
    return math.sqrt(variance) * edge * math.sqrt(1 + _MARGIN * spread)


def _computable(weight: Tensor) -> Tensor:
    return weight if weight.dtype in _EXPONENTS else weight.float()


def spectrum(difference: Float[Tensor, "out inp"], floor: float, generator: torch.Generator) -> Spectrum:
    """Singular values of a difference: all of them, or as many as lie above the floor.

    Args:
        difference: (out, inp).
        floor: as ``noise_floor`` has it; 0 where rounding plays no part.
        generator: for matrices too large for all values at once.

    Cost O(out inp min(out, inp)) up to a smaller side of 2048. Beyond, O(out inp k) for the leading k = 256; where
    these do not reach the floor, twice as many if a power law through the last ones promises that to do, else all of
    them up to a smaller side of 8192: 4096 x 4096 takes about 7 seconds on one core, 8192 x 8192 eight times that.
    """
    started = perf_counter()
    norm = float(torch.linalg.vector_norm(difference, dtype=torch.float64))
    small = min(difference.shape)
    values, complete = (difference.new_zeros(0), False) if small <= FULL else _leading(difference, floor, generator)
    if not complete and small <= EXACT:
        values, complete = _all(difference), True
    top = float(values[0]) if len(values) else 0.0
    level = tolerance(max(*difference.shape, 1), top, dtype=difference.dtype)
    return Spectrum(values, norm, floor, complete, int((values > level).sum()), perf_counter() - started)


def _leading(difference: Tensor, floor: float, generator: torch.Generator) -> tuple[Tensor, bool]:
    """The leading values, and whether they reach the floor."""
    count = LEADING
    while True:
        values = leading(difference, count, generator).values.double()
        complete = bool(len(values) < count or values[-1] <= floor)
        # a power law falls over the next doubling as it did over the last one
        if complete or 8 * count > min(difference.shape) or values[-1].square() > floor * values[count // 2 - 1]:
            return values, complete
        count *= 2


def _all(difference: Tensor) -> Tensor:
    """From the smaller Gram matrix: in float64 it loses nothing above 1e-8 of the largest value, where float32 ends."""
    short = difference.T if difference.shape[0] <= difference.shape[1] else difference
    gram = torch.zeros(short.shape[1], short.shape[1], dtype=torch.float64)
    # a slice of the long side at a time, for a vocabulary is long
    for part in short.split(max(1, _LONG // max(short.shape[1], 1))):
        wide = part.double()
        gram.addmm_(wide.T, wide)
    return torch.linalg.eigvalsh(gram).clamp_(min=0).sqrt_().flip(0)
