"""Predicted ranks beside trained ones, from measurements alone."""

import math

import pytest

from lorascope.records import KEPT, LEAST_GAIN, Measurement, predictions


def measured(method, rank, score, seed=0, task="sst2", init="pretrained", **more):
    return Measurement({"task": task, "init": init, "seed": seed}, f"{method}{seed}", method, rank,
                       {"dev_score": score, **more} if score is not None else {})  # fmt: skip


def scores(gain=0.1, **changes):
    """Head alone .7; trained adapters of rank 4 have all of the gain, extracted ones of rank 8."""
    found = [measured("gradient", rank, 0.7 + share * gain) for rank, share in ((0, 0), (2, 0.98), (4, 1.0))]
    found += [measured("extracted", rank, 0.7 + share * gain) for rank, share in ((2, 0.5), (8, KEPT))]
    return [*found, measured("full", None, 0.7 + gain, **changes)]


def test_the_least_ranks_that_are_enough():
    (one,) = predictions(scores(recommended_rank=6.0))
    assert (one.gain, one.predicted) == (pytest.approx(0.1), 6.0)
    assert (one.least(one.trained), one.least(one.extracted)) == (4, 8)


def test_means_are_over_seeds():
    found = [measured("full", None, score, seed, recommended_rank=rank) for seed, score, rank in
             ((0, 0.8, 4.0), (1, 0.84, 8.0), (2, 0.91, 64.0))]  # fmt: skip
    found += [measured("gradient", 0, score, seed) for seed, score in enumerate((0.6, 0.7))]
    (one,) = predictions(found)
    assert (one.seeds, one.full, one.head, one.predicted) == (3, pytest.approx(0.85), pytest.approx(0.65), 8.0)


@pytest.mark.parametrize(("gain", "tells"), [(LEAST_GAIN - 1e-3, False), (LEAST_GAIN + 1e-3, True), (-0.1, False)])
def test_a_small_gain_predicts_nothing(gain, tells):
    (one,) = predictions(scores(gain, recommended_rank=6.0))
    assert one.tells is tells
    assert (one.least(one.trained) is not None) is tells


def test_what_is_missing_is_nothing_and_not_zero():
    assert predictions([measured("gradient", 2, 0.8)]) == []
    (one,) = predictions([measured("full", None, 0.9), measured("full", None, None, 1)])
    assert (one.seeds, one.head, one.gain, one.tells, one.recommended) == (1, None, None, False, (math.inf,))
    assert one.least({2: 0.9}) is None


def test_random_bodies_and_other_tasks_are_apart():
    found = [*scores(), *(measured("full", None, 0.9, task="mrpc"), measured("gradient", 0, 0.1, init="random"))]
    told = predictions(found)
    assert [one.task for one in told] == ["mrpc", "sst2"]
    assert told[1].head == 0.7
