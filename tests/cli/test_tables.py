"""Tables of medians: which metrics, and for which cells."""

import io
import re

import polars as pl
import pytest
from rich.console import Console

from lorascope.cli.tables import print_medians, shown
from lorascope.records import Provenance, ok_rows

ORIGIN = Provenance("0", None, "cpu")
SPEC = {"init": "random", "target_depth": 1, "frozen_depth": 2, "bias": True, "method": "stable", "width": 8, "seed": 0}


def printed(*points):
    rows = [row for spec, metrics in points for row in rows_of(spec, metrics)]
    cells = list(dict.fromkeys(row["cell"] for row in rows if "other" not in row["spec"]))
    console = Console(width=100, record=True, file=io.StringIO())
    print_medians(console, pl.DataFrame(rows), "s", cells, "Networks")
    return console.export_text()


def rows_of(spec, metrics, rank=1):
    spec = SPEC | spec
    return ok_rows("s", spec, metrics, method=spec["method"], rank=rank, seconds=0, origin=ORIGIN)


def test_accuracy_is_what_classification_is_about():
    text = printed(({}, {"test_mse": 0.125, "test_accuracy": 0.75}))
    assert "Networks, random frozen network: median test accuracy over 1 seed" in text
    assert "0.75" in text
    assert "0.12" not in text


def test_certificates_show_what_is_promised_and_what_is_found():
    text = printed(({}, {"test_mse": 0.125, "attacked_error": 2.5, "error_bound": 7.25}))
    order = [
        text.index(part) for part in ("that an attack finds", "2.5", "that is certified", "7.2", "test MSE", "0.12")
    ]
    assert order == sorted(order)


def test_exactness_by_width_and_precision():
    text = printed(
        *(
            ({"measure": "exactness", "width": width, "dtype": dtype}, {"relative_error": value, "test_mse": 9.0})
            for width, dtype, value in ((8, "float64", 1e-14), (8, "float32", 1e-6), (16, "float32", 2e-6))
        )
    )
    for at, value in (("8, float64", "1e-14"), ("8, float32", "1e-06"), ("16, float32", "2e-06")):
        assert re.search(rf" {at} +{value} *\n", text)
    assert "9" not in text


def test_transformers_are_told_from_networks_of_as_many_layers():
    text = printed(({"model": "transformer"}, {"test_mse": 0.25}), ({}, {"test_mse": 0.5}))
    assert "1/2 blocks" in text
    assert "0.25" in text
    assert "0.5" in text


def test_metrics_of_other_cells_do_not_count():
    text = printed(({}, {"test_mse": 0.125}), ({"other": 1}, {"test_mse": 0.5, "test_accuracy": 0.75}))
    assert "accuracy" not in text
    assert "0.12" in text


@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        ({"validation_mse"}, []),
        ({"test_mse", "train_mse"}, ["train_mse", "test_mse"]),
        ({"test_mse", "test_mse_shifted"}, ["test_mse", "test_mse_shifted"]),
        ({"test_mse", "start_mse"}, ["start_mse", "test_mse"]),
        ({"rank_enough", "frozen_mse", "test_mse", "error_bound"}, ["rank_enough", "frozen_mse", "test_mse"]),
    ],
)
def test_what_is_shown(metrics, names):
    assert list(shown(metrics)) == names
