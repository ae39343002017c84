"""The best optima of all families, taken to the bottom by Levenberg-Marquardt."""

import math
from collections.abc import Iterator
from dataclasses import replace
from time import monotonic

from torch import Tensor

from ...models import FNN
from ...optim import levenberg_marquardt
from ...shapes import Float
from .point import mean_square
from .profile import Profile
from .residuals import NetworkResiduals
from .search import Candidate
from .source import InputSource

__all__ = ["distinct", "polish_pool"]

# Optima whose losses are this near, relatively, count as one.
SAME, SAME_LATER = 2e-3, 1e-3
# A candidate this many times above the best is left out.
HOPELESS = 1.6
FINALISTS_A_FAMILY = 2

Labelled = tuple[Float[Tensor, "samples inp"], Float[Tensor, "samples out"]]


def polish_pool(
    pool: list[Candidate],
    target: FNN,
    source: InputSource,
    validation: Labelled,
    profile: Profile,
    deadline: float = math.inf,
) -> Iterator[list[Candidate]]:
    """Polish the pool in rounds, fewer candidates and more work each; yields all candidates after every step.

    A polished candidate replaces its original only where its validation loss is lower, so the best never gets worse.

    Args:
        pool: candidates of all families.
        target: the network to imitate.
        source: of training inputs.
        validation: inputs and outputs to choose by.
        profile: how many, how long.
        deadline: of :func:`time.monotonic`.
    """
    training = _labelled(target, source, profile.samples)
    leaders = distinct(pool, SAME, profile.quota, HOPELESS)
    rest = [candidate for candidate in pool if candidate not in leaders]
    rounds = [
        (len(leaders), training, profile.steps, 1e-2),
        (profile.finalists, training, profile.final_steps, 1e-2),
        (1, None, profile.last_steps, 1e-3),
    ]
    for count, given, steps, damping in rounds:
        data = given or _labelled(target, source, profile.last_samples)
        chosen = distinct(leaders, SAME_LATER, FINALISTS_A_FAMILY)[:count] if count < len(leaders) else leaders
        for candidate in chosen:
            if monotonic() > deadline:
                return
            leaders = [
                _polished(one, data, validation, steps, damping, deadline) if one is candidate else one
                for one in leaders
            ]
            yield [*leaders, *rest]
        leaders.sort(key=lambda one: one.loss)


def distinct(pool: list[Candidate], apart: float, quota: int, hopeless: float = math.inf) -> list[Candidate]:
    """Best first: optima of different losses, at most ``quota`` a family, none ``hopeless`` times above the best."""
    ordered = sorted(pool, key=lambda one: one.loss)
    found: list[Candidate] = []
    for one in ordered:
        kin = [other.loss for other in found if other.family is one.family]
        near = any(abs(one.loss - loss) <= apart * loss for loss in kin)
        if len(kin) < quota and not near and one.loss <= hopeless * ordered[0].loss:
            found.append(one)
    return found


def _polished(
    candidate: Candidate, data: Labelled, validation: Labelled, steps: int, damping: float, deadline: float
) -> Candidate:
    problem = NetworkResiduals(candidate.family, *data)
    found = levenberg_marquardt(problem, problem.flat(candidate.point), steps, damping=damping, deadline=deadline)
    point = problem.point(found.point)
    loss = float(mean_square(candidate.family, point, *validation))
    return replace(candidate, loss=loss, point=point) if loss < candidate.loss else candidate


def _labelled(target: FNN, source: InputSource, count: int) -> Labelled:
    inputs = source.training(count)
    return inputs, target(inputs.to(target.linears[0].weight.dtype)).detach().double()
