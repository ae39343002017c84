"""The picture shows every row it is given, once."""

import io
import subprocess
import sys
import warnings

import pytest

from lorascope.errors import SpecError
from lorascope.figures import rank_curve
from lorascope.figures.rank_curve import CURVES


def row(depth, rank, error, **other):
    usual = {
        "depth": depth, "rank": rank, "rank_needed": 4, "exact": error < 1e-6, "accuracy": 0.5, "target_accuracy": 0.9,
        "mean_error": error, "max_error": 2 * error, "expected_error_bound": 3 * error, "error_bound": 9 * error,
        "relative_error": error / 20,
    }  # fmt: skip
    return usual | other


ROWS = [row(depth, rank, error) for depth in (4, 8) for rank, error in ((1, 3.0), (2, 0.5), (4, 1e-12), (5, 2e-12))]


def drawn(axes):
    """Every point of every line with markers, as (rank, value)."""
    lines = [line for axis in axes for line in axis.get_lines() if line.get_marker() in ("o", "s", "D", "^")]
    return sorted((float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True))


def expected(rows):
    columns = [*(curve.column for curve in CURVES), "accuracy"]
    return sorted((float(r["rank"]), float(r[column])) for r in rows for column in columns if r[column] is not None)


def test_every_value_is_drawn_once_inside_its_axis():
    figure = rank_curve(ROWS)
    assert len(figure.axes) == 6
    for axes, depth in ((figure.axes[:3], 4), (figure.axes[3:], 8)):
        assert drawn(axes) == expected([r for r in ROWS if r["depth"] == depth])
        assert f"{depth} layers" in axes[0].get_title(loc="left")
        for axis in axes:
            low, high = axis.get_ylim()
            assert all(low <= value <= high for _, value in drawn([axis]))


def test_the_two_parts_do_not_overlap_and_share_their_ranks():
    upper, lower, accuracy = rank_curve(ROWS).axes[:3]
    assert lower.get_ylim()[1] < upper.get_ylim()[0]
    assert upper.get_xlim() == lower.get_xlim() == accuracy.get_xlim()


@pytest.mark.parametrize("kept", [slice(0, 2), slice(2, 4)])
def test_without_a_gap_there_is_one_part(kept):
    figure = rank_curve(ROWS[:4][kept])
    assert len(figure.axes) == 2
    assert drawn(figure.axes) == expected(ROWS[:4][kept])


def test_a_bound_off_the_scale_is_marked_with_its_value_and_a_missing_one_left_out():
    rows = [row(8, 1, 3.0, error_bound=3.2e25, expected_error_bound=None), *ROWS[5:]]
    upper = rank_curve(rows).axes[0]
    assert upper.get_ylim()[1] < 1e5
    assert "3e+25" in [text.get_text() for text in upper.texts]
    assert (1.0, upper.get_ylim()[1]) in drawn([upper])


def test_an_error_of_exactly_zero_is_drawn_at_the_bottom():
    rows = [row(4, 1, 3.0), row(4, 4, 0.0, exact=True)]
    lower = rank_curve(rows).axes[1]
    assert {value for _, value in drawn([lower])} == {lower.get_ylim()[0]}


def test_nothing_lies_outside_the_page_or_warns():
    figure = rank_curve(ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), format="png", dpi=200)
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height


def test_no_rows():
    with pytest.raises(SpecError, match="got none"):
        rank_curve([])


def test_it_needs_no_torch():
    code = "import sys, lorascope.figures; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
