"""Fewer samples than unknowns: said, regularised, and no worse on inputs that were not given."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from contracts.cases import fnn
from lorascope import construct
from lorascope.construct.refine import input_source
from lorascope.construct.refine.family import families
from lorascope.construct.refine.point import Point, mean_square
from lorascope.construct.refine.scarce import FEWEST, PLENTY, believed, scarcity_of
from lorascope.construct.refine.search import Candidate

CPU = torch.device("cpu")


def normal(count, width=4, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def square(model, target, rows):
    with torch.no_grad():
        return float((model(rows) - target(rows)).square().mean())


def refined(frozen, target, **how):
    return construct.refined(frozen, target, 1, **{"profile": "fast", "seconds": 600} | how)


def few(found):
    return [note for note in found.certificate.conditions if note.startswith("few samples")]


@pytest.mark.parametrize("count", [1, 2, 4, 5, 8, 20, 32])
@pytest.mark.parametrize(("sizes", "seed"), [((4, 2, 1), 1), ((4, 2, 1), 2), ((4, 4, 2), 0)])
def test_few_samples_are_named_and_cost_nothing_on_fresh_inputs(sizes, seed, count):
    frozen, target = fnn(*sizes, seed=seed)
    found, closed = (refined(frozen, target, samples=normal(count, seed=seed), seconds=time) for time in (600, 0))
    (note,) = few(found)
    assert f"{count - count // 4} for training, " in note
    assert "ridge" in note
    assert few(closed) == [note]
    fresh = normal(4000, seed=100)
    assert square(found.model, target, fresh) <= 1.1 * square(closed.model, target, fresh)
    assert square(closed.model, target, fresh) < square(frozen, target, fresh)
    assert all(bool(value.isfinite().all()) for value in found.model.state_dict().values())
    assert np.isfinite(found.certificate.error_bound)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e6])
def test_one_sample_many_times(value):
    frozen, target = fnn(3, 2, 1)
    samples = torch.full((20, 3), value, dtype=torch.float64)
    found = refined(frozen, target, samples=samples)
    assert square(found.model, target, samples) <= square(frozen, target, samples)
    assert all(bool(part.isfinite().all()) for part in found.model.state_dict().values())


def test_a_single_sample_is_met_with_the_weights_as_they_are():
    """One input has no covariance: what is left is the bias that makes its error zero."""
    frozen, target = fnn(4, 2, 1)
    rows = normal(1, seed=5)
    found = refined(frozen, target, samples=rows)
    assert found.adapters == {}
    assert square(found.model, target, rows) < 1e-20


def test_plenty_of_samples_are_not_called_few():
    frozen, target = fnn(4, 2, 1)
    assert few(refined(frozen, target, samples=normal(400))) == []
    assert few(refined(frozen, target, sampler=lambda _: normal(4))) == []  # whoever draws decides how many there are


def test_unknowns_are_the_parameters_of_the_largest_family():
    frozen, target = fnn(4, 2, 1)
    given = families(frozen, target, {"layers.0.weight": 1, "layers.1.weight": 0}, ((0, 1),))
    # linearised: 1 (4 + 4 - 1) + 4; kept: that and another 4 biases
    for count, scarce in ((PLENTY * 15 - 1, True), (PLENTY * 15, False)):
        source = replace(input_source((4,), normal(8), None, None, CPU), given=normal(count))
        found = scarcity_of(given, source)
        assert (found is not None) == scarce
    few_ones = scarcity_of(given, input_source((4,), normal(8), None, None, CPU))
    assert "6 for training, 15 unknowns" in few_ones.note
    assert few_ones.ridge == pytest.approx(4 / 6)
    assert scarcity_of(given, input_source((4,), normal(2), None, None, CPU)).ridge == 1
    assert scarcity_of(given, input_source((4,), None, None, None, CPU)) is None


def candidates(shifts, inputs):
    """Networks that miss outputs of 0 by these biases, the first one the reference."""
    frozen, target = fnn(3, 1, 1)
    (family,) = families(frozen, target, {"layers.0.weight": 0}, ((0,),))
    family = replace(family, weights=(torch.zeros(3, 3).double(),))
    none = (torch.zeros(0, 3).double(),), (torch.zeros(3, 0).double(),)
    outputs = torch.zeros(len(inputs), 3).double()
    points = [Point(*none, (torch.full((3,), shift).double(),)) for shift in shifts]
    found = [Candidate(float(mean_square(family, point, inputs, outputs)), family, point, "") for point in points]
    return found, (inputs, outputs)


def test_only_what_beats_the_closed_form_on_every_count_is_believed():
    pool, validation = candidates([1.0, 0.5, 1.0, 2.0], normal(FEWEST, 3))
    assert believed(pool, pool[0], validation) == pool[:2]
    pool, validation = candidates([1.0, 0.5], normal(FEWEST - 1, 3))
    assert believed(pool, pool[0], validation) == pool[:1]


def test_a_gain_on_average_that_may_be_chance_is_not_believed():
    pool, (inputs, _) = candidates([1.0, 0.0], normal(8, 3))
    mixed = torch.zeros(8, 3).double()
    mixed[:3] = 1.0  # there the reference is right
    assert believed(pool, pool[0], (inputs, mixed)) == pool[:1]
    mixed[:3] = 0.1
    assert believed(pool, pool[0], (inputs, mixed)) == pool
