"""Below the threshold: the best low-rank adaptation of a ReLU network that can be found in a given time."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic

import torch
from torch import Tensor

from ...adaptation import Domain
from ...models import FNN
from ...theory import Match, Partition
from ..chain import Solution, solve_match
from ..fnn import Realised, realise_fnn
from .family import Family, families
from .point import Point, mean_square
from .polish import labelled, polish_pool
from .profile import Profile
from .scarce import believed, scarcity_of
from .search import Candidate, Schedule, descend
from .source import InputSource
from .starts import Moments, closed_form, moments_of, starts, widened

__all__ = ["RefinedFNN", "refine_fnn"]

# How far above its network's loss that of the written adapters may lie before other candidates are tried.
FAITHFUL = 1e-3
MOMENT_SAMPLES = 4096
# Of the time left, the part that the remaining Adam runs share.
ADAM_SHARE = 0.6
# Seconds given to the adapters of one group, and as many more where they have not been found by then.
WRITING = 5.0


@dataclass(frozen=True)
class RefinedFNN:
    """The best adaptation found.

    Attributes:
        realised: adapters, biases and the model with them.
        groups: frozen layers that act as one layer.
        loss: mean squared error of the model on the validation inputs.
        best: of every family, by its name; where a refinement with more rank may start.
        method: what won, in words.
        conditions: what the samples did not allow.
    """

    realised: Realised
    groups: Partition
    loss: float
    best: Mapping[str, Candidate] = field(repr=False)
    method: str
    conditions: tuple[str, ...]


def refine_fnn(
    frozen: FNN,
    target: FNN,
    ranks: Mapping[str, int],
    partition: Partition,
    source: InputSource,
    domain: Domain,
    profile: Profile,
    generator: torch.Generator,
    *,
    deadline: float = math.inf,
    lower: RefinedFNN | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> RefinedFNN:
    """Minimise ``E |f - fbar|^2`` over adapters of rank at most ``ranks`` and biases.

    Every family of ``partition`` (groups linearised or kept) starts from its covariance-weighted truncation and from
    the frozen network, many times over; Adam thins the starts out, Levenberg-Marquardt finishes the best. The winner
    on validation inputs is written as adapters: a group of layers by Lemma 1', a kept layer as it is.

    Args:
        frozen, target: ReLU networks.
        ranks: parameter name -> cap.
        partition: one group of frozen layers for each target layer.
        source: of inputs.
        domain: for the biases that linearise.
        profile: how much work.
        generator: of the starts.
        deadline: of :func:`time.monotonic`; after it the best so far is written. In the past: closed form only.
        lower: a refinement with less rank, to start from as well.
        progress: called with the share done and what is being done.

    Source: new; Zeng & Lee 2024 leave low rank to gradient descent.
    """
    say = progress or (lambda _share, _what: None)
    validation = labelled(target, source.validation)
    given = families(frozen, target, ranks, partition)
    scarce = scarcity_of(given, source)
    ridge, decay, notes = (0.0, 0.0, ()) if scarce is None else (scarce.ridge, scarce.decay, (scarce.note,))
    moments = moments_of(target, source.training(MOMENT_SAMPLES), source.standard, ridge)
    pool = _known(given, frozen, target, moments, validation, lower, generator)
    closed = pool = pool if scarce is None else believed(pool, pool[0], validation)
    for index, family in enumerate(given):
        if monotonic() > deadline:
            break
        say(0.7 * index / len(given), f"Adam, layers {family.name}")
        count = profile.linear_starts if len(family.runs) == len(family.groups) else profile.starts // len(given)
        begin = starts(family, frozen, target, moments, max(8, count), generator)
        schedule = Schedule(profile.first, profile.second // len(given), profile.kept, decay=decay)
        end = monotonic() + (deadline - monotonic()) * ADAM_SHARE / (len(given) - index)
        pool = pool + descend(family, begin, target, source, validation, schedule, end)
    reference = pool[0]
    for step, polished in enumerate(polish_pool(pool, target, source, validation, profile, deadline)):
        pool = polished
        say(0.7 + 0.25 * (1 - 0.8 ** (step + 1)), "Levenberg-Marquardt")
    if scarce is not None:
        pool = believed(pool, reference, validation)
    say(0.95, "writing the adapters")
    return _written(frozen, pool, closed, ranks, domain, validation, notes)


def _known(
    given: list[Family],
    frozen: FNN,
    target: FNN,
    moments: Moments,
    validation: tuple[Tensor, Tensor],
    lower: RefinedFNN | None,
    generator: torch.Generator,
) -> list[Candidate]:
    """What is there before any step: every family's closed form, and its solution of lower rank."""
    pool: list[Candidate] = []
    for family in given:
        point = closed_form(family, frozen, target, moments)
        pool.append(_candidate(family, point, validation, "covariance-weighted truncation"))
        if lower is not None and family.name in lower.best:
            grown = widened(lower.best[family.name].point, family, generator)
            pool.append(_candidate(family, grown, validation, "the solution of lower rank"))
    return pool


def _candidate(family: Family, point: Point, validation: tuple[Tensor, Tensor], origin: str) -> Candidate:
    loss = float(mean_square(family, point, *validation))
    return Candidate(loss if math.isfinite(loss) else math.inf, family, point, origin)


def _written(
    frozen: FNN,
    pool: list[Candidate],
    closed: list[Candidate],
    ranks: Mapping[str, int],
    domain: Domain,
    validation: tuple[Tensor, Tensor],
    notes: tuple[str, ...],
) -> RefinedFNN:
    """The candidate whose adapters do best: the first, unless writing it down as adapters costs accuracy.

    Singular frozen weights, and groups of so many layers that their adapters drown in rounding, do cost it: then those
    of the other families and of ``closed`` are compared as written, until none left could be better.
    """

    def solve(match: Match, given: tuple[int, ...]) -> Solution:
        return solve_match(match, given, monotonic() + WRITING, WRITING)

    best: dict[str, Candidate] = {}
    for one in sorted(pool, key=lambda candidate: candidate.loss):
        best.setdefault(one.family.name, one)
    found: RefinedFNN | None = None
    order = [*best.values(), *(one for one in closed if one not in best.values())]
    for one in sorted(order, key=lambda candidate: candidate.loss):
        if found is not None and one.loss >= found.loss:
            break
        family = one.family
        network = FNN.from_weights(one.point.weights(family), one.point.biases)
        realised = realise_fnn(frozen, network, ranks, family.groups, domain, solve)
        inputs = torch.nn.functional.pad(validation[0], (0, frozen.width - validation[0].shape[1]))
        outputs = realised.model(inputs.to(frozen.linears[0].weight.dtype)).detach().double()
        loss = float((outputs[:, : validation[1].shape[1]] - validation[1]).square().mean())
        loss = loss if math.isfinite(loss) else math.inf
        method = f"refined ({family.name}; {one.origin})"
        if found is None or loss < found.loss:
            found = RefinedFNN(realised, family.groups, loss, best, method, notes)
        if loss <= one.loss * (1 + FAITHFUL):
            break
    assert found is not None
    return found
