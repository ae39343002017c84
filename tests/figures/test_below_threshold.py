"""Every value above zero is drawn where it belongs; ratios are those of the same seed."""

import pytest

from lorascope.errors import SpecError
from lorascope.figures import below_threshold
from lorascope.figures.below_threshold import LINES


def row(panel, method, rank, seed, value):
    return {"panel": panel, "method": method, "rank": rank, "seed": seed, "value": value}


ERRORS = {"paper": 4.0, "truncation": 3.0, "adam": 2.0, "refined fast": 1.5, "refined full": 1.0}
ROWS = [
    row(panel, method, rank, seed, size * value * (1 + seed) / rank)
    for panel, size in (("first", 1.0), ("second", 10.0))
    for method, value in ERRORS.items()
    for rank in (1, 2, 4)
    for seed in range(3)
]


def points(axis, marker):
    return sorted(
        (float(x), float(y))
        for line in axis.get_lines()
        if line.get_marker() == marker
        for x, y in zip(*line.get_data(), strict=True)
    )


def test_medians_above_and_ratios_beneath():
    figure = below_threshold(ROWS)
    assert [axis.get_title(loc="left") for axis in figure.axes[::2]] == ["first", "second"]
    for axis, ratio, size in ((*figure.axes[:2], 1.0), (*figure.axes[2:], 10.0)):
        for line in LINES:
            medians = [(rank, size * ERRORS[line.method] * 2 / rank) for rank in (1.0, 2.0, 4.0)]
            assert [y for _, y in points(axis, line.marker)] == pytest.approx([y for _, y in medians])
        for method, marker in (("refined full", "s"), ("refined fast", "D")):
            assert [y for _, y in points(ratio, marker)] == pytest.approx([ERRORS[method] / 2] * 9)


def test_zeros_missing_values_and_other_methods_are_left_out():
    extra = [row("first", "refined full", 4, 7, 0.0), row("first", "paper", 1, 7, None), row("first", "?", 1, 0, 1.0)]
    plain, more = (below_threshold(rows).axes for rows in (ROWS, [*ROWS, *extra]))
    for before, after in zip(plain, more, strict=True):
        for line in LINES:
            assert points(before, line.marker) == points(after, line.marker)


def test_no_rows():
    with pytest.raises(SpecError, match="at least one row"):
        below_threshold([])
