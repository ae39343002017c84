"""A cell computed again: what counts as the same, and what is told apart."""

import math

import pytest

from lorascope.records import Provenance, compare, failed_row, ok_rows

SPEC = {"width": 8}


def rows(value, rank=1, message="", origin=("0", "abc", "cpu"), metric="test_mse", method="stable"):
    made = Provenance(*origin)
    return ok_rows("s", SPEC, {metric: value}, method=method, rank=rank, seconds=0, origin=made, message=message)


@pytest.mark.parametrize(
    ("old", "new", "relative", "same"),
    [
        (0.5, 0.5, 0, True),
        (0.5, 0.5 * (1 + 9e-6), 9e-6, True),
        (0.5, 0.5 * (1 + 1.1e-5), 1.1e-5, False),
        (-0.5, 0.5, 2, False),
        (1e-28, 7e-28, 6 / 7, True),  # both are zero but for rounding
        (1e-28, 1e-3, 1, False),
        (0.0, 0.0, 0, True),
        (math.nan, math.nan, 0, True),
        (math.inf, math.inf, 0, True),
        (math.nan, 1.0, math.inf, False),
        (1.0, math.inf, math.inf, False),
        (-math.inf, math.inf, math.inf, False),
    ],
)
def test_values(old, new, relative, same):
    found = compare(rows(old), rows(new))
    (change,) = found.changes
    assert change.relative == pytest.approx(relative, rel=1e-3)
    assert (change.same, found.same, found.apart) == (same, same, ())


def test_the_largest_difference_of_each_metric_counts():
    old = [*rows(1.0), *rows(2.0, rank=2), *rows(3.0, metric="lr")]
    new = [*rows(3.0, metric="lr"), *rows(2.5, rank=2), *rows(1.1)]
    found = {change.metric: change for change in compare(old, new).changes}
    assert found["test_mse"].values == 2
    assert found["test_mse"].absolute == pytest.approx(0.5)
    assert found["test_mse"].relative == pytest.approx(0.2)
    assert (found["lr"].values, found["lr"].absolute, found["lr"].same) == (1, 0, True)


def test_the_largest_in_proportion_may_be_another_value():
    (change,) = compare([*rows(1e6), *rows(1.0, rank=2)], [*rows(1e6 + 1), *rows(1.5, rank=2)]).changes
    assert (change.absolute, change.relative, change.same) == (1.0, pytest.approx(1 / 3), False)


def test_where_and_by_what_it_was_computed():
    old = rows(1.0, message="steps by the torch engine")
    new = rows(1.0, message="steps by the compiled engine", origin=("1", None, "a GPU"))
    found = compare(old, new)
    assert found.same
    assert found.apart == (
        "version 0, now 1",
        "commit abc, now unknown",
        "device cpu, now a GPU",
        'messages of 1 rows, the first "steps by the torch engine", now "steps by the compiled engine"',
    )


def test_rows_that_only_one_has():
    failed = failed_row("s", SPEC, "singular", method="stable", rank=1, seconds=0, origin=Provenance("0", "abc", "cpu"))
    found = compare([*rows(1.0), *rows(2.0, rank=2)], [failed, *rows(2.0, rank=2)])
    assert not found.same
    assert [change.values for change in found.changes] == [1]
    assert found.apart == (
        "1 row only recorded (test_mse stable at rank 1)",
        "1 row only now (failure of stable at rank 1)",
    )
