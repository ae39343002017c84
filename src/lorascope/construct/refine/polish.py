"""The best optima of all families, taken to the bottom by Levenberg-Marquardt."""

import math
from collections.abc import Iterator
from dataclasses import replace
from time import monotonic

from torch import Tensor

from ...models import FNN
from ...optim import levenberg_marquardt
from .point import mean_square
from .profile import Profile
from .residuals import NetworkResiduals
from .search import Candidate
from .source import InputSource

__all__ = ["distinct", "labelled", "polish_pool"]

# Optima whose losses are this near, relatively, count as one.
SAME, SAME_LATER = 2e-3, 1e-3
# A candidate this many times above the best is left out.
HOPELESS = 1.6
# Operations a second that a slow core manages on these shapes.
SPEED = 1e10

Labelled = tuple[Tensor, Tensor]  # inputs (samples, inp) and outputs (samples, out)


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
    leaders = distinct(pool, SAME, profile.quota, HOPELESS)
    rest = [candidate for candidate in pool if candidate not in leaders]
    for number, plan in enumerate(profile.rounds):
        data = labelled(target, source.training(plan.samples))
        apart = SAME if number == 0 else SAME_LATER
        for candidate in distinct(leaders, apart, plan.count)[: plan.count]:
            if monotonic() > deadline:
                return
            better = _polished(candidate, data, validation, plan.steps, deadline)
            leaders = [better if one is candidate else one for one in leaders]
            yield [*leaders, *rest]


def distinct(pool: list[Candidate], apart: float, quota: int, hopeless: float = math.inf) -> list[Candidate]:
    """Best first: optima of different losses, at most ``quota`` a family, none ``hopeless`` times above the best."""
    ordered = sorted(pool, key=lambda one: one.loss)
    found: list[Candidate] = []
    for one in ordered:
        kin = [other.loss for other in found if other.family is one.family]
        near = any(abs(one.loss - loss) <= apart * loss for loss in kin)
        hopeful = hopeless == math.inf or one.loss <= hopeless * ordered[0].loss  # inf * 0 is no limit
        if len(kin) < quota and not near and hopeful:
            found.append(one)
    return found


def _polished(candidate: Candidate, data: Labelled, validation: Labelled, steps: int, deadline: float) -> Candidate:
    problem = NetworkResiduals(candidate.family, *data)
    if problem.operations / SPEED > deadline - monotonic():  # not even one step would end in time
        return candidate
    found = levenberg_marquardt(problem, problem.flat(candidate.point), steps, deadline=deadline)
    point = problem.point(found.point)
    loss = float(mean_square(candidate.family, point, *validation))
    return replace(candidate, loss=loss, point=point) if loss < candidate.loss else candidate


def labelled(target: FNN, inputs: Tensor) -> Labelled:
    """The inputs, and the target's outputs in float64."""
    return inputs, target(inputs.to(target.linears[0].weight.dtype)).detach().double()
