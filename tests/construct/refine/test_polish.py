"""Adam and Levenberg-Marquardt on a pool: what goes in, what comes out, and that the best never gets worse."""

import math

import pytest
import torch

from contracts.cases import BRIEF_PROFILE, fnn
from lorascope.construct.refine import Profile, Round, input_source, profile_named
from lorascope.construct.refine.family import families
from lorascope.construct.refine.point import Point, mean_square
from lorascope.construct.refine.polish import HOPELESS, distinct, polish_pool
from lorascope.construct.refine.search import Candidate, Schedule, descend
from lorascope.construct.refine.starts import moments_of, starts
from lorascope.errors import SpecError


def problem(generator):
    frozen, target = fnn(3, 2, 1)
    given = families(frozen, target, {"layers.0.weight": 1, "layers.1.weight": 0}, ((0, 1),))
    source = input_source((3,), None, None, generator, torch.device("cpu"))
    validation = source.validation, target(source.validation).detach()
    moments = moments_of(target, source.validation, standard=True)
    return frozen, target, given, source, validation, moments


def candidates(given, count=1):
    """Of these losses, in turn from ``count`` families."""
    frozen, target = fnn(2, 1, 1)
    kinds = [families(frozen, target, {"layers.0.weight": 0}, ((0,),))[0] for _ in range(count)]
    empty, zero = torch.zeros(0, 2).double(), torch.zeros(2).double()
    point = Point((empty,), (empty.T,), (zero,))
    return [Candidate(loss, kinds[index % count], point, "") for index, loss in enumerate(given)]


def losses(found):
    return [one.loss for one in found]


def test_distinct_optima_come_best_first_and_near_ones_once():
    assert losses(distinct(candidates([3.0, 1.0, 1.001, 2.0]), 2e-3, 9)) == [1.0, 2.0, 3.0]
    assert losses(distinct(candidates([3.0, 1.0, 1.01, 2.0]), 2e-3, 9)) == [1.0, 1.01, 2.0, 3.0]
    assert losses(distinct(candidates([3.0, 1.0, 2.0]), 2e-3, 2)) == [1.0, 2.0]
    assert losses(distinct(candidates([1.0, 1.5, 1.7]), 2e-3, 9, HOPELESS)) == [1.0, 1.5]
    assert losses(distinct(candidates([0.0, 0.0, 1.0]), 2e-3, 9)) == [0.0, 1.0]


def test_families_have_their_own_quota_and_may_agree():
    found = distinct(candidates([1.0, 1.0, 2.0, 2.0, 3.0, 3.0], 2), 2e-3, 2)
    assert losses(found) == [1.0, 1.0, 2.0, 2.0]


def test_candidates_without_a_loss_come_last():
    assert losses(distinct(candidates([math.inf, 1.0, math.inf]), 2e-3, 9)) == [1.0, math.inf, math.inf]
    assert losses(distinct(candidates([math.inf, 1.0]), 2e-3, 9, HOPELESS)) == [1.0]


@pytest.mark.parametrize("kept", [0, 1])
def test_descent_returns_the_best_first_with_their_validation_losses(kept, generator):
    frozen, target, given, source, validation, moments = problem(generator)
    begin = starts(given[kept], frozen, target, moments, 8, generator)
    before = begin.parts()[0].clone()
    found = descend(given[kept], begin, target, source, validation, Schedule(30, 60, 3), math.inf)
    assert torch.equal(begin.parts()[0], before)
    assert len(found) == 3
    assert losses(found) == sorted(losses(found))
    for one in found:
        assert one.point.biases[0].dtype == torch.float64
        assert one.loss == pytest.approx(float(mean_square(one.family, one.point, *validation)), rel=1e-9)
    assert found[0].loss < float(mean_square(given[kept], begin, *validation).min())


def test_descent_past_the_deadline_takes_one_step_a_round_and_fewer_starts_than_kept_are_fine(generator):
    frozen, target, given, source, validation, moments = problem(generator)
    begin = starts(given[0], frozen, target, moments, 2, generator)
    found = descend(given[0], begin, target, source, validation, Schedule(10**6, 10**6, 5), -math.inf)
    assert len(found) == 2


def test_members_that_diverge_come_last_with_an_infinite_loss(generator):
    frozen, target, given, source, validation, moments = problem(generator)
    begin = starts(given[0], frozen, target, moments, 4, generator)
    begin.biases[0][1] = math.nan
    found = descend(given[0], begin, target, source, validation, Schedule(5, 5, 4), math.inf)
    assert [math.isfinite(one.loss) for one in found] == [True, True, True, False]


def test_polishing_never_makes_the_best_worse_and_keeps_the_rest(generator):
    frozen, target, given, source, validation, moments = problem(generator)
    pool = []
    for family in given:
        begin = starts(family, frozen, target, moments, 4, generator)
        pool += descend(family, begin, target, source, validation, Schedule(20, 20, 4), math.inf)
    best = min(losses(pool))
    rounds = list(polish_pool(pool, target, source, validation, BRIEF_PROFILE))
    assert 2 <= len(rounds) <= 3  # at most two candidates in the first round, one in the second
    for polished in rounds:
        assert len(polished) == len(pool)
        assert min(losses(polished)) <= best
        best = min(losses(polished))
        for one in polished:
            assert one.loss == pytest.approx(float(mean_square(one.family, one.point, *validation)), rel=1e-9)
    assert best < min(losses(pool))
    assert list(polish_pool(pool, target, source, validation, BRIEF_PROFILE, -math.inf)) == []


def test_polishing_for_other_inputs_is_kept_only_where_it_helps(generator):
    """Training inputs far from those to choose by: the polished network may be worse, the pool is not."""
    frozen, target, given, _, validation, moments = problem(generator)
    begin = starts(given[0], frozen, target, moments, 1, generator).member(0)
    pool = [Candidate(float(mean_square(given[0], begin, *validation)), given[0], begin, "")]
    elsewhere = input_source((3,), None, lambda n: 50 + torch.rand(n, 3), generator, torch.device("cpu"))
    plan = Profile(1, 1, 1, 1, 1, 1, (Round(1, 200, 5),))
    (polished,) = polish_pool(pool, target, elsewhere, validation, plan)
    assert polished[0] is pool[0]


@pytest.mark.parametrize("name", ["slow", "", "FULL"])
def test_a_profile_of_no_such_name_is_refused(name):
    with pytest.raises(SpecError, match=rf"profile must be one of \['fast', 'full'\], got '{name}'"):
        profile_named(name)
