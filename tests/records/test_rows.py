"""Rows that do not fit, and the rows that the package builds."""

import enum
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings

from lorascope.errors import SpecError
from lorascope.records import COLUMNS, cell_name, cell_seed, checked, failed_row, ok_rows, write_part
from records.samples import ORIGIN, row, same, tables

FAILED = {"metric": None, "value": None, "status": "failed", "message": "why"}


class Method(str, enum.Enum):  # noqa: UP042 (whose str() is not its value)
    STABLE = "stable"


def fault_of(*rows):
    with pytest.raises(SpecError) as caught:
        checked(rows)
    return str(caught.value)


def test_all_faults_at_once(tmp_path):
    bad = [
        row(extra=1, rank=True, status="bad", seconds=math.nan),
        row(of={"width": 9}),
        {name: value for name, value in row().items() if name != "seed"} | {"suite": 3},
        row(of={"width": 9}),
    ]
    with pytest.raises(SpecError) as caught:
        write_part(tmp_path / "never", bad)
    assert str(caught.value) == (
        "rows must fit the schema, got 7 faults: "
        "row 0: unknown column 'extra'; "
        "row 0: rank must be an integer of 64 bits or None, got True (bool); "
        "row 0: status must be ok or failed, got 'bad'; "
        "row 0: seconds must be finite and not negative, got nan; "
        "row 2: suite must be a string that UTF-8 can hold, got 3 (int); "
        "row 2: column seed missing (seed of every random draw of this row, cell_seed(spec) unless a cell has many); "
        "row 3: same suite, cell, seed, method, rank, metric as row 1; "
        "mend the rows"
    )
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("name", COLUMNS)
def test_every_column_is_required(name):
    fault = fault_of({key: value for key, value in row().items() if key != name})
    missing = f"column {name} missing ({COLUMNS[name].meaning})"
    assert fault == f"rows must fit the schema, got 1 fault: row 0: {missing}; mend the rows"


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("value", [None, b"x", [1], object(), True, "\ud800", 1j])
def test_no_column_takes_another_type(name, value):
    if value is None and COLUMNS[name].optional:
        assert checked([row(**FAILED | {name: None})])
    else:
        assert f"row 0: {name} must be " in fault_of(row(**{name: value}))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"suite": "a/b"}, "suite must be 1 to 100 letters, digits, '_', '-' or '.', the first a letter or a digit"),
        ({"suite": ""}, "suite must be 1 to 100 letters"),
        ({"cell": ".hidden"}, "cell must be 1 to 100 letters"),
        ({"cell": "x" * 101}, "cell must be 1 to 100 letters"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"seed": 2**63}, "seed must be an integer of 64 bits, got 9223372036854775808 (int)"),
        ({"rank": 2.0}, "rank must be an integer of 64 bits or None, got 2.0 (float)"),
        ({"rank": -1}, "rank must not be negative, got -1"),
        ({"method": ""}, "method must not be empty, got ''"),
        ({"metric": ""}, "metric must not be empty, got ''"),
        ({"value": "0.5"}, "value must be a float or None, got '0.5' (str)"),
        ({"value": 10**400}, "value must be a float or None"),
        ({"seconds": -0.1}, "seconds must be finite and not negative, got -0.1"),
        ({"seconds": math.inf}, "seconds must be finite and not negative, got inf"),
        ({"spec": "{"}, "spec must be a JSON object, got '{'"),
        ({"spec": "[1]"}, "spec must be a JSON object, got '[1]'"),
        ({"status": "failed", "message": "why"}, "a row with status failed must have no value, got 0.5"),
        ({**FAILED, "message": " "}, "a row with status failed must say why in its message, got ' '"),
        ({"value": None}, "a row with status ok must have a value, got None"),
        ({"metric": None}, "a row with status ok must have a metric, got None"),
    ],
)
def test_values_that_make_no_sense(changes, fault):
    assert f"got 1 fault: row 0: {fault}" in fault_of(row(**changes))


def test_a_long_list_of_faults_is_counted():
    fault = fault_of(*(row(seed=-1) for _ in range(150)))
    assert "got 150 faults: row 0: " in fault
    assert "; row 99: " in fault
    assert "row 100" not in fault
    assert fault.endswith("; and 50 more; mend the rows")


def test_long_values_are_quoted_in_part():
    assert len(fault_of(row(status="x" * 10**6))) < 200


@settings(max_examples=40)
@given(tables)
def test_rows_that_fit_are_unchanged_and_checking_twice_is_checking_once(rows):
    assert same(checked(rows), rows)
    assert same(checked(checked(rows)), rows)


def test_order_of_columns_does_not_matter():
    backwards = dict(reversed(row().items()))
    assert list(checked([backwards])[0]) == list(row())


def test_numbers_of_other_kinds_become_pythons_own():
    changes = {"seed": np.int64(3), "rank": np.uint8(2), "value": np.float32(0.5), "seconds": Fraction(3, 2)}
    (plain,) = checked([row(**changes, method=Method.STABLE)])
    assert same([plain], [row(seed=3)])
    assert [type(plain[name]) for name in (*changes, "method")] == [int, int, float, float, str]


def test_rows_of_a_result():
    spec = {"width": 8}
    metrics = {"error": 0.5, "bound": math.inf, "residual": math.nan}
    rows = ok_rows("suite", spec, metrics, method="stable", rank=2, seconds=1.5, origin=ORIGIN)
    assert same(rows, [row(metric=metric, value=value) for metric, value in metrics.items()])
    assert rows[0]["cell"] == cell_name(spec)
    assert rows[0]["seed"] == cell_seed(spec)
    (seeded,) = ok_rows(
        "suite",
        spec,
        {"error": 1},
        method="full",
        rank=None,
        seconds=0,
        origin=ORIGIN,
        seed=7,
        message="as far as it goes",
    )
    assert same([seeded], [row(method="full", rank=None, value=1.0, seconds=0.0, seed=7, message="as far as it goes")])


def test_row_of_a_failure():
    failed = failed_row("suite", {"width": 8}, "no \ud800", method="paper", rank=2, seconds=1.5, origin=ORIGIN)
    assert same([failed], [row(method="paper", **FAILED | {"message": "no ?"})])


def test_builders_name_all_faults():
    with pytest.raises(SpecError, match=r"2 faults: row 0: suite must .*; row 0: seconds must"):
        ok_rows("a b", {}, {"error": 0.5}, method="m", rank=1, seconds=-1.0, origin=ORIGIN)
    with pytest.raises(SpecError, match="must say why"):
        failed_row("suite", {}, "", method="m", rank=1, seconds=1.0, origin=ORIGIN)
