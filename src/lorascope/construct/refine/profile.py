"""How much work goes into a refinement."""

from dataclasses import dataclass
from typing import Literal

from ...errors import SpecError

__all__ = ["PROFILES", "Profile", "ProfileName", "Round", "profile_named"]

ProfileName = Literal["full", "fast"]


@dataclass(frozen=True)
class Round:
    """One round of Levenberg-Marquardt.

    Attributes:
        count: candidates that take part, the best of all families.
        samples: inputs.
        steps: at most so many for each.
    """

    count: int
    samples: int
    steps: int


@dataclass(frozen=True)
class Profile:
    """Starts, steps and samples of the rounds that refine an FNN.

    Attributes:
        starts: over all families together; those that linearise everything need fewer.
        linear_starts: of such a family.
        first: Adam steps of all starts.
        second: of the best, over all families together.
        kept: starts a family keeps after the first of them.
        quota: distinct optima a family sends to the first round.
        rounds: of Levenberg-Marquardt, each with fewer candidates and more work on each.
    """

    starts: int
    linear_starts: int
    first: int
    second: int
    kept: int
    quota: int
    rounds: tuple[Round, ...]


PROFILES: dict[str, Profile] = {
    "full": Profile(
        starts=256,
        linear_starts=16,
        first=600,
        second=8000,
        kept=16,
        quota=4,
        rounds=(Round(10, 4000, 10), Round(3, 4000, 20), Round(1, 16000, 10)),
    ),
    "fast": Profile(
        starts=96,
        linear_starts=16,
        first=400,
        second=4000,
        kept=10,
        quota=3,
        rounds=(Round(5, 4000, 8), Round(1, 4000, 20), Round(1, 12000, 8)),
    ),
}


def profile_named(name: str) -> Profile:
    """The profile of that name.

    Raises:
        SpecError: there is none.
    """
    if not isinstance(name, str) or name not in PROFILES:
        raise SpecError(f"profile must be one of {sorted(PROFILES)}, got {name!r}")
    return PROFILES[name]
