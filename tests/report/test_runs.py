"""Rows that belong together are one run; what would mix different settings is kept apart."""

import polars as pl
import pytest

from lorascope.experiments import grid, load_suite
from lorascope.records import cell_name, failed_row, read
from lorascope.report.charts import charts
from lorascope.report.fields import all_fields, fields
from lorascope.report.points import once_a_cell
from lorascope.report.runs import collect, extra_keys
from lorascope.report.suites import command

from .samples import ORIGIN, all_cells, curve_cells, rows_of, spec


def table(*cells):
    return pl.DataFrame([row for rows in cells for row in rows], infer_schema_length=None)


def test_a_run_has_all_metrics_of_one_rank_and_its_curve_apart():
    one = spec("gradient", seed=3, ranks=[1, 4])
    cells = [
        rows_of("s", one, rank, {"test_mse": rank / 8, "curve_mse@100": 0.5, "curve_mse@9": 2.0}) for rank in (1, 4)
    ]
    first, second = collect(table(*cells))
    assert (first.rank, first.metrics, first.curve) == (1, {"test_mse": 0.125}, ((9, 2.0), (100, 0.5)))
    assert (second.rank, second.seed, second.scale, second.init, second.depths) == (4, 3, "smoke", "random", "1/2")


def test_a_metric_that_only_looks_like_a_curve_stays_a_metric_or_is_left_out():
    run = collect(table(rows_of("s", spec("gradient"), 1, {"curve_mse@x": 1.0, "curve_mse": 2.0})))[0]
    assert run.curve == ()
    assert run.metrics == {"curve_mse": 2.0}


def test_one_failure_fails_the_run_and_its_message_is_told():
    one = spec("stable", ranks=[2])
    failure = failed_row("s", one, "too singular", method="stable", rank=2, seconds=0, origin=ORIGIN)
    run = collect(table(rows_of("s", one, 2, {"test_mse": 0.5}, "fine"), [failure]))[0]
    assert (run.failed, run.message, run.metrics) == (True, "too singular", {"test_mse": 0.5})


def test_lines_tell_fixed_biases_and_starts_apart():
    lines = [
        collect(table(rows_of("s", spec("gradient", **more), 1, {"test_mse": 1.0})))[0].line
        for more in ({}, {"tune_bias": True}, {"tune_bias": False}, {"start": "zero"})
    ]
    assert lines == ["gradient", "gradient", "gradient, biases fixed", "gradient, zero start"]


@pytest.mark.parametrize("key", ["steps", "lr", "width", "task", "mine"])
def test_whatever_else_varies_is_kept_apart(key):
    values = {"lr": ([0.1], [0.2]), "task": ("binary", "regression")}.get(key, (1, 2))
    cells = [rows_of("s", spec("gradient", seed=seed) | {key: value}, 1, {"test_mse": 1.0})
             for seed in (0, 1) for value in values]  # fmt: skip
    runs = collect(table(*cells))
    assert extra_keys(runs) == [key]
    rows = [fields(run, [key]) for run in runs]
    assert all(key in chart.panel for chart in charts("s", rows, ["test_mse"], [key]))


def test_what_follows_from_scale_depth_or_method_is_not_kept_apart():
    specs = [spec("gradient", depths=(depth, 2 * depth), scale=scale) | {"train_inputs": 400 * depth, "steps": steps}
             for depth in (1, 2) for scale, steps in (("smoke", 5), ("paper", 9))]  # fmt: skip
    cells = [rows_of("s", one, 1, {"test_mse": 1.0}) for one in specs]
    cells.append(rows_of("s", spec("stable"), 1, {"test_mse": 1.0}))
    assert extra_keys(collect(table(*cells))) == []


def test_rows_of_another_digest_are_kept_apart_and_those_of_another_task_are_anyway():
    named = [("rte", "r"), ("sst2", "s")]
    for more, keys in (([], ["task"]), ([("rte", "t")], ["rows_digest", "task"])):
        cells = [rows_of("s", spec("gradient") | {"task": task, "rows_digest": rows}, 1, {"test_mse": 1.0})
                 for task, rows in named + more]  # fmt: skip
        assert extra_keys(collect(table(*cells))) == keys


def test_medians_are_over_nothing_but_seeds(records):
    runs = collect(read(records))
    checked = 0
    for suite in dict.fromkeys(run.suite for run in runs):
        assert mixed([run for run in runs if run.suite == suite], suite) == []
        checked += 1
    assert checked == len({rows[0]["suite"] for rows in all_cells()})


def test_that_a_mixture_would_be_noticed():
    cells = [rows_of("s", spec("gradient") | {"steps": steps}, 1, {"test_mse": 1.0}) for steps in (5, 9)]
    assert mixed(collect(table(*cells)), "s") == []
    assert mixed(collect(table(*cells)), "s", extra=[]) != []


def mixed(runs, suite, extra=None):
    """Points of which a seed has two runs."""
    extra = extra_keys(runs) if extra is None else extra
    rows = all_fields(runs, extra)
    metrics = list(dict.fromkeys(name for run in runs for name in run.metrics))
    twice = []
    for chart in charts(suite, rows, metrics, extra):
        if chart.kind == "points":
            continue
        seen = set()
        for row in once_a_cell(rows) if chart.once else rows:
            if chart.kind == "median" and not {chart.x.field, *(one.field for one in chart.series)} & row.keys():
                continue
            x = None if chart.kind == "curve" else row.get(chart.group, row.get(chart.x.field))
            line = "" if chart.line == "series" else row.get(chart.line)
            point = (chart.title, *(row.get(name) for name in chart.panel), line, x, row["seed"])
            twice += [point] if point in seen else []
            seen.add(point)
    return twice


def test_what_a_cell_says_of_its_networks_is_said_of_each_rank():
    one, other = spec("gradient", ranks=[1, 4]), spec("full", seed=1)
    cells = [*(rows_of("s", one, rank, {"test_mse": 1 / rank}) for rank in (1, 4)),
             rows_of("s", one, None, {"frozen_mse": 0.5}), rows_of("s", other, None, {"test_mse": 0.3})]  # fmt: skip
    rows = all_fields(collect(table(*cells)))
    assert [(row.get("rank"), row.get("frozen_mse"), row.get("test_mse")) for row in rows] == [
        (1, 0.5, 1.0), (4, 0.5, 0.25), (None, 0.5, None), (None, None, 0.3)
    ]  # fmt: skip


def test_the_command_computes_the_cell_again():
    run = collect(table(rows_of("fnn", spec("stable", ranks=[1]), 1, {"test_mse": 1.0})))[0]
    assert command(run) == f"lorascope run fnn --only {run.cell}"
    run = collect(table(rows_of("fnn", spec("stable", scale="paper"), 1, {"test_mse": 1.0})))[0]
    assert command(run) == f"lorascope run fnn --scale paper --only {run.cell}"
    run = collect(table(rows_of("mine", spec("stable"), 1, {"test_mse": 1.0})))[0]
    assert command(run) == f"lorascope run mine.toml --only {run.cell}"
    run = collect(table(rows_of("mine", {"method": "stable"}, 1, {"test_mse": 1.0})))[0]
    assert command(run) == ""


def test_the_cells_of_a_suite_are_found_by_their_commands():
    one = grid(load_suite("fnn"), "paper")[0]
    rows = rows_of("fnn", one, 1, {"test_mse": 1.0})
    words = command(collect(table(rows))[0]).split()
    scale, cell = words[words.index("--scale") + 1], words[words.index("--only") + 1]
    assert cell in map(cell_name, grid(load_suite(words[2]), scale))


def test_every_suite_draws_its_question_first(records):
    runs = collect(read(records))
    firsts = {}
    for suite in dict.fromkeys(run.suite for run in runs):
        chosen = [run for run in runs if run.suite == suite]
        rows = all_fields(chosen)
        chart = charts(suite, rows, [name for run in chosen for name in run.metrics])[0]
        firsts[suite] = (chart.x.field, chart.series[0].field)
    assert firsts == {
        **dict.fromkeys(("linear", "fnn", "tfn", "classification", "binary", "distribution-shift", "generalization",
                         "optimization-gap", "hostile"), ("rank", "test_mse")),
        "convergence": ("step", "curve"), "bias": ("entries", "test_mse"), "methods": ("entries", "test_mse"),
        "final-layers": ("parameters", "test_mse"), "rank-allocation": ("allocation", "test_mse"),
        "depth": ("frozen_depth", "test_mse"), "proximity": ("frozen_mse", "test_mse"),
        "exactness": ("rank", "relative_error"), "certificates": ("rank", "error_bound"), "foreign": ("seed", "score"),
    }  # fmt: skip


def test_numbers_beside_bounds():
    cells = list(curve_cells("s", seeds=(0,), inits=("random",), methods=("stable",)))
    row = fields(collect(table(cells[0]))[0])
    assert row["rms_error"] == pytest.approx((16 * row["test_mse"]) ** 0.5)
    assert row["measured"] == row["rms_error"]
    assert row["looseness"] == pytest.approx(3)
    metrics = {"test_mse": 1.0, "error_bound": 9.0, "largest_error": 5.0, "attacked_error": 6.0}
    row = fields(collect(table(rows_of("s", spec("stable"), 1, metrics)))[0])
    assert (row["measured"], row["looseness"]) == (6.0, 1.5)
    exact = fields(collect(table(rows_of("s", spec("stable"), 1, {"test_mse": 0.0, "error_bound": 0.0})))[0])
    assert "looseness" not in exact
