"""The records in the repository: that the suites still say what they came from, and that they come out again."""

import json
import random
from pathlib import Path

import polars as pl
import pytest
import torch

from lorascope import tune
from lorascope.experiments import Subject, compute, effort, grid, load_suite
from lorascope.models import FNN
from lorascope.records import cell_name, compare, read

RESULTS = Path(__file__).parents[2] / "results" / "experiments"


@pytest.fixture(scope="module")
def table():
    return read(RESULTS)


def test_every_cell_is_one_of_its_suite(table):
    cells = table.select("suite", "cell", scale=pl.col("spec").str.json_path_match("$.scale")).unique()
    for (suite, scale), group in cells.group_by("suite", "scale"):
        names = {cell_name(spec) for spec in grid(load_suite(suite), scale)}
        if suite == "glue":  # the suite's own file does not say what it is run on
            rows = table.filter(suite=suite).unique("cell").filter(pl.col("cell").is_in(list(group["cell"])))
            said = [without_subject(json.loads(text)) for text in rows["spec"]]
            assert {cell_name(spec) for spec in said} <= names
            continue
        assert set(group["cell"]) <= names, (suite, scale)


def without_subject(spec):
    """What a cell's spec says but for the checkpoint and the rows."""
    subject = Subject("", "", 1, 1, 1, "", {})
    return {key: value for key, value in spec.items() if key not in subject.pair("")}


def test_the_suites_of_the_main_figures_are_whole_at_the_papers_scale(table):
    for suite in ("linear", "fnn", "fnn-depths", "final-layers", "bias"):
        names = {cell_name(spec) for spec in grid(load_suite(suite), "paper")}
        rows = table.filter(suite=suite)
        assert names <= set(rows["cell"])
        assert set(rows["status"]) == {"ok"}


def test_where_they_came_from_is_known(table):
    assert not table["commit"].is_null().any()
    assert not table["commit"].str.contains("dirty").any()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gradient", "last-layers", "paper", "stable"])
def test_cells_picked_at_random_come_out_again(table, method):
    """To 1e-5; gradient methods only on the engine that made the rows, for another drifts apart within 5,000 steps."""
    rows = table.filter(pl.col("status") == "ok", method=method)
    specs = {row["cell"]: json.loads(row["spec"]) for row in rows.unique("cell").sort("cell").iter_rows(named=True)}
    cheap = [name for name, spec in specs.items() if effort(spec) < 20 and spec.get("model") == "fnn"]
    if method in ("gradient", "last-layers"):
        engine = tune.engine_for(FNN(16, 2, dtype=torch.float32), "auto").name
        said = rows.filter(pl.col("message").str.contains(f"by the {engine} engine"))
        cheap = [name for name in cheap if name in set(said["cell"])]
    assert cheap or method in ("gradient", "last-layers")
    for name in random.Random(method).sample(cheap, min(2, len(cheap))):
        recorded = rows.filter(cell=name).sort("suite").to_dicts()
        recorded = [row for row in recorded if row["suite"] == recorded[0]["suite"]]
        found = compare(recorded, compute(recorded[0]["suite"], specs[name]))
        assert found.same, (recorded[0]["suite"], name, found.changes)
