"""Few samples for the unknowns: what is regularised, and which refinements are believed."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .family import Family
from .point import forward
from .search import Candidate
from .source import InputSource

__all__ = ["Scarcity", "believed", "scarcity_of"]

DECAY = 1e-3
# Training samples an unknown below which they are few: with one each, Levenberg-Marquardt still fits their chance.
PLENTY = 2
# A refinement is believed where it gains so many standard errors over the closed form, on at least so many inputs it
# has not seen.
STANDARD_ERRORS = 2.0
FEWEST = 4


@dataclass(frozen=True)
class Scarcity:
    """What few samples ask for.

    Attributes:
        ridge: share of the mean variance added to covariances.
        decay: weight decay of Adam.
        note: in words and numbers.
    """

    ridge: float
    decay: float
    note: str


def scarcity_of(families: Sequence[Family], source: InputSource) -> Scarcity | None:
    """None where the inputs never end, or are twice as many as any family's unknowns."""
    if source.given is None:
        return None
    unknowns = max(sum(map(_unknowns, family.ranks, family.weights)) for family in families)
    samples, width = source.given.shape
    if samples >= PLENTY * unknowns:
        return None
    ridge = min(1.0, width / samples)
    note = (
        f"few samples: {samples} for training, {unknowns} unknowns; regularised by a ridge of {ridge:.2g} of the mean "
        f"variance and a weight decay of {DECAY:g}, and no further from the closed form than held-out inputs clearly "
        f"ask for"
    )
    return Scarcity(ridge, DECAY, note)


def believed(pool: Sequence[Candidate], reference: Candidate, validation: tuple[Tensor, Tensor]) -> list[Candidate]:
    """The reference, and the candidates that beat it on held-out inputs by more than chance.

    Args:
        pool: candidates; the reference may be among them.
        reference: the closed form.
        validation: inputs and outputs.
    """
    if len(validation[0]) < FEWEST:
        return [reference]
    usual = _squares(reference, validation)
    found = [reference]
    for one in pool:
        gain = usual - _squares(one, validation)
        error = float(gain.std()) / len(gain) ** 0.5
        if one is not reference and float(gain.mean()) > STANDARD_ERRORS * error:
            found.append(one)
    return found


def _squares(candidate: Candidate, validation: tuple[Tensor, Tensor]) -> Tensor:
    """Squared error of each input."""
    point = candidate.point
    outputs = forward(point.weights(candidate.family), point.biases, validation[0].to(point.biases[0]))
    return (outputs - validation[1]).square().mean(-1)


def _unknowns(rank: int, weight: Tensor) -> int:
    out, inp = weight.shape
    return rank * (out + inp - rank) + out
