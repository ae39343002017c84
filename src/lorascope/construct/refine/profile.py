"""How much work goes into a refinement."""

from dataclasses import dataclass
from typing import Literal

from ...errors import SpecError

__all__ = ["PROFILES", "Profile", "ProfileName", "profile_named"]

ProfileName = Literal["full", "fast"]


@dataclass(frozen=True)
class Profile:
    """Starts, steps and samples of the rounds that refine an FNN.

    Attributes:
        starts: over all families together; those that linearise everything need fewer.
        linear_starts: of such a family.
        first, second: Adam steps of all starts, and of the best.
        kept: starts a family keeps after the first round.
        quota: distinct optima a family sends to the Gauss-Newton rounds.
        samples: inputs of those rounds.
        steps: of the first of them.
        finalists, final_steps: how many go on, and for how long.
        last_samples, last_steps: of the winner's round.
    """

    starts: int
    linear_starts: int
    first: int
    second: int
    kept: int
    quota: int
    samples: int
    steps: int
    finalists: int
    final_steps: int
    last_samples: int
    last_steps: int


PROFILES: dict[str, Profile] = {
    "full": Profile(128, 16, 400, 1200, 12, 3, 4000, 10, 4, 30, 16000, 10),
    "fast": Profile(96, 16, 300, 900, 8, 1, 4000, 8, 1, 20, 12000, 6),
}


def profile_named(name: str) -> Profile:
    """The profile of that name.

    Raises:
        SpecError: there is none.
    """
    if name not in PROFILES:
        raise SpecError(f"profile must be one of {sorted(PROFILES)}, got {name!r}")
    return PROFILES[name]
