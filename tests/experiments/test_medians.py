"""Medians over seeds, from the table."""

import math

import polars as pl
import pytest

from lorascope.experiments import Median, medians
from lorascope.records import Provenance, cell_name, failed_row, ok_rows

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
