"""A figure is drawn from one scale of one suite, each seed once."""

import pytest

from figures.rows import failed, row, spec, table
from figures.rows import glue as glue_rows
from lorascope.errors import SpecError
from lorascope.figures.extent import extent
from lorascope.figures.glue import glue
from lorascope.figures.glue_prediction import glue_prediction


def words(picture):
    return " ".join(" ".join(text.get_text().split()) for text in picture.figure.texts)


def test_the_largest_scale_alone():
    rows = [
        *row("fnn", spec(scale="smoke", seed=0), 1, test_mse=1.0),
        *row("fnn", spec(scale="medium"), 1, test_mse=2.0),
    ]
    assert [one.metrics["test_mse"] for one in extent(table(rows), "fnn").found] == [2.0]
    rows += row("fnn", spec(scale="paper", steps=5000, seed=3), 1, test_mse=3.0)
    source = extent(table(rows), "fnn")
    assert (source.scale, source.seeds, source.steps) == ("paper", 1, (5000,))
    assert source.title() == "paper scale: 1 seed, 5,000 steps"


def test_other_suites_do_not_count():
    rows = [*row("fnn", spec(), 1, test_mse=1.0), *row("linear", spec(scale="paper"), 1, test_mse=2.0)]
    assert extent(table(rows), "fnn").scale == "smoke"


def test_a_seed_counts_once_from_the_cell_with_more_steps():
    rows = [
        *row("fnn", spec(steps=2000, ranks=[1]), 1, test_mse=2.0),
        *row("fnn", spec(steps=500, ranks=[1, 2]), 1, test_mse=1.0),
        *row("fnn", spec(steps=500, ranks=[1, 2]), 2, test_mse=0.5),
    ]
    for order in (rows, rows[::-1]):
        source = extent(table(order), "fnn")
        assert [(one.rank, one.metrics["test_mse"]) for one in source.found] == [(2, 0.5), (1, 2.0)] or [
            (one.rank, one.metrics["test_mse"]) for one in source.found
        ] == [(1, 2.0), (2, 0.5)]
        assert source.superseded == 1


@pytest.mark.parametrize("key", ["tune_bias", "seed", "width", "start", "dtype"])
def test_what_is_computed_is_never_superseded(key):
    other = spec(steps=500) | {key: {"tune_bias": False, "seed": 7, "width": 8}.get(key, "other")}
    rows = [*row("fnn", spec(), 1, test_mse=1.0), *row("fnn", other, 1, test_mse=2.0)]
    assert len(extent(table(rows), "fnn").found) == 2


def test_failures_are_counted():
    rows = [*row("fnn", spec(), 1, test_mse=1.0), *failed("fnn", spec(), 2), *failed("fnn", spec(seed=1, ranks=[1, 2]))]
    source = extent(table(rows), "fnn")
    assert source.failed == 3
    assert len(source.found) == 4


def test_no_records():
    with pytest.raises(SpecError, match="records of its suite fnn, got none; run: lorascope run fnn"):
        extent(table([]), "fnn")


@pytest.mark.parametrize("changes", [{"checkpoint": "other"}, {"steps": 7}, {"search_share": 0.5}])
@pytest.mark.parametrize("draw", [glue, glue_prediction])
def test_two_checkpoints_or_settings_are_never_one_line(draw, changes):
    rows = list(glue_rows())
    shared = {"measure": "glue", "task": "sst2", "checkpoint": "tiny", "ranks": [0, 2, 8], "model": "transformer"}
    other = spec(6, 6, "pretrained", method="full", **(shared | changes))
    alone, both = (draw(table(some)) for some in (rows, rows + row("glue", other, dev_score=0.1)))
    assert both.points == alone.points
    assert "1 run of another checkpoint or of other settings left out." in words(both)
    assert "left out" not in words(alone)
