"""Medians over seeds, from the table."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorascope.errors import SpecError
from lorascope.records import (
    Median,
    Provenance,
    Spread,
    cell_name,
    failed_row,
    measurements,
    medians,
    ok_rows,
    quantile,
    spreads,
)

ORIGIN = Provenance("0", None, "cpu")
SPEC = {"init": "random", "target_depth": 2, "frozen_depth": 4, "bias": True, "method": "gradient", "tune_bias": True}


def point(value, seed, rank=1, **spec):
    spec = SPEC | {"seed": seed} | spec
    rows = ok_rows("s", spec, {"test_mse": value, "lr": 9.0}, method="gradient", rank=rank, seconds=0, origin=ORIGIN)
    return cell_name(spec), rows


def medians_of(*points):
    rows = [row for _, rows in points for row in rows]
    return medians(pl.DataFrame(rows), "s", list(dict.fromkeys(name for name, _ in points)))


def test_the_median_is_over_seeds():
    found = medians_of(*(point(value, seed) for seed, value in enumerate([3.0, 1.0, 2.0, 100.0, 0.0])))
    assert found == [Median("random", "2/4", "gradient", "rank 1", 2.0, 5)]


def test_no_number_counts_as_infinite():
    found = medians_of(point(1.0, 0), point(math.nan, 1), point(2.0, 2))
    assert [one.value for one in found] == [2.0]
    assert medians_of(point(math.nan, 1))[0].value == math.inf


@pytest.mark.parametrize(
    ("spec", "line", "at"),
    [
        ({"tune_bias": False}, "gradient, biases fixed", "rank 1"),
        ({"tune_bias": False, "bias": False}, "gradient", "rank 1"),
        ({"layers": 3, "method": "last-layers"}, "last-layers", "last 3"),
        ({"allocation": [1, 2, 3, 10]}, "gradient", "1+2+3+10"),
    ],
)
def test_what_tells_points_apart(spec, line, at):
    first, second = medians_of(point(1.0, 0, 3), point(2.0, 0, 1, **spec))
    assert (first.line, first.at) == ("gradient", "rank 3")
    assert (second.line, second.at) == (line, at)


@pytest.mark.parametrize(
    ("key", "values", "names"),
    [
        ("width", (4, 8), (", width 4", ", width 8")),
        ("dtype", ("float32", "float64"), (", float32", ", float64")),
        ("task", ("regression", "binary"), (", regression", ", binary")),
        ("dtype", (None, "float32"), ("", "")),
        ("pretrain", ({"level": 0.5, "steps": 1}, {"level": 0.1, "steps": 1}), (", level 0.5", ", level 0.1")),
    ],
)
def test_networks_that_differ_are_not_repetitions(key, values, names):
    several = [SPEC | ({} if value is None else {key: value}) for value in values]
    found = medians_of(*(point(1.0, seed, **spec) for spec in several for seed in (0, 1)))
    assert {one.line for one in found} == {f"gradient{name}" for name in names}
    assert {one.seeds for one in found} == {4 // len(set(names))}
    alone = medians_of(*(point(1.0, seed, **several[1]) for seed in (0, 1)))
    assert [one.line for one in alone] == ["gradient"]


def test_ranks_go_up_and_cells_stay_in_order():
    one, two = point(1.0, 0, 10), point(1.0, 0, 9)
    other = point(1.0, 0, init="pretrained")
    assert [(found.init, found.at) for found in medians_of(other, one, two)] == [
        ("pretrained", "rank 1"),
        ("random", "rank 9"),
        ("random", "rank 10"),
    ]


def test_failures_and_cells_not_asked_for_are_left_out():
    name, rows = point(1.0, 0)
    _, others = point(5.0, 1)
    failed = failed_row("s", SPEC | {"seed": 0}, "no", method="gradient", rank=2, seconds=0, origin=ORIGIN)
    assert [one.at for one in medians(pl.DataFrame([*rows, failed, *others]), "s", [name])] == ["rank 1"]


def test_another_suite_may_have_the_same_cells():
    name, rows = point(1.0, 0)
    others = [row | {"suite": "t", "value": 5.0} for row in rows]
    assert medians(pl.DataFrame([*rows, *others]), "s", [name])[0] == Median(
        "random", "2/4", "gradient", "rank 1", 1.0, 1
    )


def test_spreads_count_failures_and_keep_points_without_values():
    _, rows = point(1.0, 0, rank=1)
    whole = failed_row("s", SPEC | {"seed": 1, "ranks": [1, 2]}, "no", method="g", rank=None, seconds=0, origin=ORIGIN)
    found = measurements(pl.DataFrame([*rows, whole]), "s")
    assert spreads(found, "test_mse", lambda one: one.rank) == {1: Spread((1.0,), 1), 2: Spread((), 1)}
    assert math.isnan(Spread(()).median)
    assert math.isnan(Spread(()).quantile(0.5))


def test_a_measurement_may_be_left_out_and_other_metrics_are():
    found = measurements(pl.DataFrame([row for seed in (0, 1) for row in point(seed + 1.0, seed)[1]]), "s")
    kept = spreads(found, "test_mse", lambda one: None if one.spec["seed"] else one.rank)
    assert kept == {1: Spread((1.0,))}
    assert spreads(found, "lr", lambda one: one.rank) == {1: Spread((9.0, 9.0))}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12), st.floats(0, 1))
def test_quantiles_are_numpys(values, share):
    assert quantile(sorted(values), share) == pytest.approx(float(np.quantile(values, share)), abs=1e-6)


def test_quantiles_beside_infinities():
    assert quantile([1.0, math.inf, math.inf], 1) == math.inf
    assert quantile([1.0, 2.0, math.inf], 0.5) == 2.0
    assert quantile([1.0, math.inf], 0.0) == 1.0


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], math.nan)])
def test_quantiles_of_nothing_or_beyond(values, share):
    with pytest.raises(SpecError, match="quantile needs values"):
        quantile(values, share)
