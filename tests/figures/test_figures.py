"""Every figure shows what its points say, whatever the records lack."""

import csv
import io
import math
import warnings
from functools import cache

import pytest

from figures.rows import by_rank, every, failed, row, spec, table
from lorascope.errors import SpecError
from lorascope.figures import FIGURES, rendered
from lorascope.figures.reference_points import reference
from lorascope.figures.style import line_styles

ROWS = every()
NAMES = list(FIGURES)


def drawn(name, rows):
    return FIGURES[name].draw(table(rows))


@cache
def whole(name):
    return drawn(name, ROWS[name])


def points(picture):
    return list(csv.DictReader(io.StringIO(picture.points)))


def words(picture):
    return " ".join(" ".join(text.get_text().split()) for text in picture.figure.texts)


def shown(axis):
    """(x, y) of all marks of our lines."""
    lines = [line for line in axis.get_lines() if line.get_linewidth() > 0.85]
    return [(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


def test_every_suite_of_the_paper_has_a_figure_of_its_name():
    assert all(name.removesuffix("-prediction") == figure.suite for name, figure in FIGURES.items())
    assert set(ROWS) == set(FIGURES)


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_on_the_page_and_apart(name):
    figure = whole(name).figure
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.draw_without_rendering()
    panels = [axis.get_tightbbox() for axis in figure.axes]
    around = [text.get_window_extent() for text in figure.texts] + [figure.legends[0].get_window_extent()]
    pieces = [*panels, *around]
    for place, one in enumerate(pieces):
        assert not any(one.overlaps(other) for other in pieces[place + 1 :])
        assert min(one.x0, one.y0) >= 0
        assert one.x1 <= figure.bbox.x1
        assert one.y1 <= figure.bbox.y1
    for axis in figure.axes:
        assert_ticks_apart(axis.get_xticklabels(), 0, axis.get_xlim())
        assert_ticks_apart(axis.get_yticklabels(), 1, axis.get_ylim())


def assert_ticks_apart(labels, way, limits):
    inside = [one for one in labels if one.get_text() and limits[0] <= one.get_position()[way] <= limits[1]]
    assert len(inside) >= 2
    boxes = [one.get_window_extent() for one in inside]
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[place + 1 :])


@pytest.mark.parametrize("name", NAMES)
def test_every_point_is_drawn_in_its_panel_and_no_two_lines_look_alike(name):
    picture = whole(name)
    for axis in picture.figure.axes:
        lines = [
            one for one in axis.get_lines() if one.get_linewidth() > 0.85 and one.get_transform() == axis.transData
        ]
        looks = {(one.get_marker(), one.get_markerfacecolor() == "white", one.get_linestyle()) for one in lines}
        assert len(looks) == len(lines)
    aside = 0.5 if name == "glue-prediction" else 0.0  # lines stand side by side there
    seen = [(axis.get_title(loc="left"), *point) for axis in picture.figure.axes for point in shown(axis)]
    floors = {axis.get_ylim()[0] for axis in picture.figure.axes if axis.get_yscale() == "log"} | {-math.inf}
    for one in points(picture):
        x, y = float(one["x"]), float(one["y"])
        at = [1.0] if y == math.inf else [max(y, floor) for floor in floors]  # an arrow at the top
        assert any(panel == one["panel"] and abs(left - x) <= aside and y in at for panel, left, y in seen), one


def with_gaps(rows):
    """A cell failed as a whole, and values lost here and there."""
    lost = rows[0] | {"rank": None, "metric": None, "value": None, "status": "failed", "message": "no"}
    return [lost, *(one for place, one in enumerate(rows) if one["cell"] != lost["cell"] and place % 7 != 3)]


def with_odd_values(rows):
    odd = [math.nan, math.inf, -math.inf, 0.0, -1.0, 1e25, 1e308, 5e-324]
    return [one | {"value": odd[place % 8]} if place % 3 == 0 else one for place, one in enumerate(rows)]


def without_numbers(rows):
    return [one | {"value": math.nan} for one in rows]


def with_zeros(rows):
    return [one | {"value": 0.0} for one in rows]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [with_gaps, with_odd_values])
def test_whatever_the_records_lack(name, change):
    if name == "glue-prediction" and change is with_odd_values:  # of which nothing is a gain
        with pytest.raises(SpecError, match="that gains at least 3 points"):
            drawn(name, change(ROWS[name]))
        return
    picture = drawn(name, change(ROWS[name]))
    if change is with_gaps:
        assert "failed; a point without any is a gap." in words(picture)


@pytest.mark.parametrize("name", ["fnn-depths", "methods", "rank-allocation", "proximity"])  # all kinds of axes
@pytest.mark.parametrize("change", [with_gaps, with_odd_values, without_numbers, with_zeros])
def test_odd_records_are_laid_out(name, change):
    drawn(name, change(ROWS[name])).figure.draw_without_rendering()


@pytest.mark.parametrize("name", NAMES)
def test_one_seed(name):
    picture = drawn(name, [one for one in ROWS[name] if '"seed":0' in one["spec"]])
    assert "1 seed" in words(picture)
    if name != "exactness":  # a point of it has several widths
        assert "One seed a point" in words(picture)
        assert {one["seeds"] for one in points(picture)} == {"1"}


@pytest.mark.parametrize("name", NAMES)
def test_other_metrics_alone(name):
    with pytest.raises(SpecError, match=f"lorascope run {FIGURES[name].suite}$"):
        drawn(name, [one | {"metric": f"other {place}"} for place, one in enumerate(ROWS[name])])


@pytest.mark.parametrize("name", NAMES)
def test_failures_alone(name):
    cells = {one["cell"]: one for one in ROWS[name]}
    lost = {"rank": None, "metric": None, "value": None, "status": "failed", "message": "no"}
    with pytest.raises(SpecError, match=f"lorascope run {FIGURES[name].suite}$"):
        drawn(name, [one | lost for one in cells.values()])


def test_a_failed_rank_is_a_gap_in_the_line_and_counted():
    rows = [one for one in ROWS["fnn"] if not (one["rank"] == 4 and one["method"] == "paper")]
    for seed in range(3):
        for init in ("random", "pretrained"):
            rows += failed("fnn", spec(2, 4, init, seed, "paper", ranks=[1, 2, 4, 8]), 4)
    picture = drawn("fnn", rows)
    assert "6 runs failed" in words(picture)
    gaps = [one for one in points(picture) if one["seeds"] == "0"]
    assert [(one["line"], one["x"], one["y"]) for one in gaps] == [("the paper's construction", "4", "nan")] * 2
    lines = picture.figure.axes[0].get_lines()
    line = next(line for line in lines if line.get_marker() == "v" and line.get_linewidth() > 1)
    assert [math.isnan(y) for y in line.get_ydata()] == [False, False, True, False]


def test_a_median_that_diverged_is_an_arrow_at_the_top_and_counted():
    lost = {"rank": 2, "method": "gradient", "metric": "test_mse"}
    rows = [one | {"value": math.nan} if lost.items() <= one.items() else one for one in ROWS["fnn"]]
    picture = drawn("fnn", rows)
    assert "Arrows at the top: 2 medians that are not finite." in words(picture)
    arrows = [line for line in picture.figure.axes[0].get_lines() if line.get_marker() == "^" and len(line.get_xdata())]
    assert (2.0, 1.0) in [(float(x), float(y)) for line in arrows for x, y in zip(*line.get_data(), strict=True)]


def test_what_was_computed_twice_is_told():
    rows = [*ROWS["linear"], *row("linear", spec(steps=5, ranks=[1]), 1, test_mse=9.0)]
    assert "left out" not in words(drawn("linear", rows))  # a different network: relu
    again = spec(activation="identity", ranks=[1], steps=5)
    rows = [*ROWS["linear"], *row("linear", again, 1, test_mse=9.0)]
    assert "1 run of fewer steps or inputs left out." in words(drawn("linear", rows))


def test_the_authors_values_have_a_place_in_our_figures():
    places = {
        (name, one["panel"], one["line"]) for name in {one.figure for one in reference()} for one in points(whole(name))
    }
    # of other encoders than ours, in panels that we have
    others = {(one.figure, one.panel, one.line) for one in reference() if one.figure == "glue"}
    assert {one[1] for one in others} >= {one[1] for one in places if one[0] == "glue"}
    assert {(one.figure, one.panel, one.line) for one in reference()} - others <= places


@pytest.mark.parametrize("figure", ["linear", "final-layers"])
def test_the_authors_values_are_drawn_in_grey(figure):
    picture = whole(figure)
    thin = [line for line in picture.figure.axes[0].get_lines() if line.get_linewidth() < 0.85]
    assert {line.get_color() for line in thin} == {"#7a7a7a"}
    found = {(float(x), float(y)) for line in thin for x, y in zip(*line.get_data(), strict=True)}
    assert found == {(one.x, one.y) for one in reference() if one.figure == figure and one.panel.startswith("random")}
    labels = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert any(label.startswith("authors' median: ") for label in labels)
    assert "as read from their notebooks" in words(picture)


def test_the_authors_values_name_their_sources():
    ours = [one for one in reference() if one.figure != "glue"]
    assert all(one.source.startswith("draw_plots/") and one.y > 0 for one in ours)


def test_the_papers_scores_are_shipped_and_drawn():
    scores = {(one.panel, one.line, one.x): one.y for one in reference() if one.figure == "glue"}
    assert scores["SST-2", "RoBERTa-base, random", 2] == 0.775
    assert scores["STS-B", "RoBERTa-large, pretrained", 2] == 0.916
    assert len(scores) == 7 * 8 + 5  # the fourth rank of the base model is known of five tasks
    picture = whole("glue")
    thin = [line for line in picture.figure.axes[0].get_lines() if line.get_linewidth() < 0.85]
    drawn = {(float(x), float(y)) for line in thin for x, y in zip(*line.get_data(), strict=True)}
    title = picture.figure.axes[0].get_title(loc="left")
    assert drawn == {(x, y) for (panel, _, x), y in scores.items() if panel == title}
    assert "authors: RoBERTa-base, random" in [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert "notebooks" not in words(picture)


def test_the_first_seven_lines_without_a_style_differ():
    styles = line_styles([f"line {number}" for number in range(7)])
    assert len({(style.dash, style.marker) for style in styles.values()}) == 7
    assert len({style.colour for style in styles.values()}) == 7


def test_equal_records_give_equal_files():
    first, second = (drawn("bias", rows) for rows in (ROWS["bias"], ROWS["bias"][::-1]))
    assert first.points == second.points
    for kind in ("png", "svg"):
        assert rendered(first, kind) == rendered(second, kind)


def test_many_ranks_keep_their_ticks_apart():
    ranks = list(range(1, 17))
    rows = by_rank("fnn-depths", methods=["gradient"], seeds=1, ranks=ranks)
    figure = drawn("fnn-depths", list(rows)).figure
    figure.draw_without_rendering()
    for axis in figure.axes:
        assert_ticks_apart(axis.get_xticklabels(), 0, axis.get_xlim())
