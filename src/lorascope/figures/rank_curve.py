"""Error, certified bound and accuracy against rank, for each frozen depth."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter

from ..errors import SpecError

__all__ = ["rank_curve"]

Row = Mapping[str, Any]

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
}
GREY = "#444444"


@dataclass(frozen=True)
class _Curve:
    column: str
    label: str
    colour: str
    line: str
    marker: str
    face: str


# Okabe and Ito's vermilion and blue: apart for every kind of colour vision; bounds are dashed and hollow.
CURVES = (
    _Curve("error_bound", "certified for every input", "#d55e00", "--", "o", "white"),
    _Curve("max_error", "largest over the test images", "#d55e00", "-", "o", "#d55e00"),
    _Curve("expected_error_bound", "certified for the mean", "#0072b2", "--", "s", "white"),
    _Curve("mean_error", "mean over the test images", "#0072b2", "-", "s", "#0072b2"),
)


@dataclass(frozen=True)
class _Scale:
    """Decades of the two parts of the broken error axis; errors above ``upper[1]`` are marked at its edge."""

    upper: tuple[int, int]
    lower: tuple[int, int] | None


def rank_curve(rows: Sequence[Row]) -> Figure:
    """One column a frozen depth: output error and its bounds on a broken logarithmic axis, accuracy beneath.

    Args:
        rows: with ``depth``, ``rank``, ``rank_needed``, ``exact``, ``accuracy``, ``target_accuracy`` (shares),
            ``relative_error`` and the four columns of errors (Euclidean norms, not squared; None where there is none).

    Returns:
        A figure to be saved at 200 dpi; it belongs to no window.

    Raises:
        SpecError: no rows.

    Cost O(rows).
    """
    if not rows:
        raise SpecError("rank_curve needs at least one row, got none")
    depths = sorted({row["depth"] for row in rows})
    scale = _scale(rows)
    heights = [3.0, 1.3, 1.25] if scale.lower else [4.0, 1.25]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(4.6 * len(depths), 6.0), 5.9))
        grid = figure.add_gridspec(
            len(heights), len(depths), height_ratios=heights, left=0.085, right=0.985, top=0.845, bottom=0.085,
            hspace=0.09, wspace=0.1,
        )  # fmt: skip
        for column, depth in enumerate(depths):
            axes = [figure.add_subplot(grid[line, column]) for line in range(len(heights))]
            _column(axes, sorted((row for row in rows if row["depth"] == depth), key=lambda row: row["rank"]), scale)
            for axis in axes if column else ():
                axis.tick_params(labelleft=False)
            if not column:
                axes[-1].set_ylabel("test accuracy")
        middle = (0.845 + grid[len(heights) - 2, 0].get_position(figure).y0) / 2
        figure.text(0.012, middle, "output error (Euclidean norm)", rotation=90, va="center", ha="left")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False, bbox_to_anchor=(0.53, 0.995),
                      handlelength=2.6, columnspacing=1.6)  # fmt: skip
    return figure


def _column(axes: list[Axes], rows: list[Row], scale: _Scale) -> None:
    first = rows[0]
    parts = [(axes[0], scale.upper), *([(axes[1], scale.lower)] if scale.lower else [])]
    for axis, decades in parts:
        assert decades is not None
        _errors(axis, rows, decades, last=axis is axes[0])
    if scale.lower:
        _break(axes[0], axes[1])
    _accuracy(axes[-1], rows)
    ends = rows[0]["rank"], rows[-1]["rank"]
    margin = 0.05 * max(ends[1] - ends[0], 1)
    for axis in axes:
        axis.axvline(first["rank_needed"], color=GREY, linewidth=1, linestyle=(0, (1, 1.5)), zorder=1)
        axis.set_xlim(ends[0] - margin, ends[1] + margin)
        axis.xaxis.set_major_locator(MaxNLocator(9, integer=True))
        if axis is not axes[-1]:
            axis.tick_params(axis="x", length=0, labelbottom=False)
    axes[0].set_title(f"frozen network of {first['depth']} layers")
    axes[0].annotate(
        f"rank needed: {first['rank_needed']}", (first["rank_needed"], 1), xycoords=("data", "axes fraction"),
        xytext=(-5, -2), textcoords="offset points", ha="right", va="top", color=GREY,
    )  # fmt: skip
    axes[-1].set_xlabel("rank of every adapter")


def _errors(axis: Axes, rows: list[Row], decades: tuple[int, int], last: bool) -> None:
    low, high = 10.0 ** decades[0], 10.0 ** decades[1]
    for curve in CURVES:
        points = [(row["rank"], row[curve.column]) for row in rows if row[curve.column] is not None]
        inside = [(rank, max(value, low)) for rank, value in points if value <= high and (last or value > 0)]
        inside = [point for point in inside if (point[1] > low) or not last]
        axis.plot(
            [rank for rank, _ in inside], [value for _, value in inside], curve.line, color=curve.colour,
            marker=curve.marker, markerfacecolor=curve.face, markersize=4.8, linewidth=1.5, label=curve.label,
        )  # fmt: skip
        for rank, value in points:
            if last and value > high:
                axis.plot([rank], [high], "^", color=curve.colour, markerfacecolor=curve.face, clip_on=False)
                axis.annotate(f"{value:.0e}", (rank, high), xytext=(6, -3), textcoords="offset points",
                              color=curve.colour, fontsize=8, va="center")  # fmt: skip
    axis.set_yscale("log")
    axis.set_ylim(low, high)
    step = max(1, math.ceil((decades[1] - decades[0]) / 4))
    axis.yaxis.set_major_locator(FixedLocator([10.0**power for power in range(decades[0], decades[1] + 1, step)]))
    axis.yaxis.set_minor_locator(NullLocator())


def _accuracy(axis: Axes, rows: list[Row]) -> None:
    axis.axhline(rows[0]["target_accuracy"], color=GREY, linewidth=1)
    axis.plot([row["rank"] for row in rows], [row["accuracy"] for row in rows], "-", color="#009e73", marker="D",
              markersize=4, linewidth=1.5)  # fmt: skip
    axis.set_ylim(0, 1.08)
    axis.yaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.annotate(f"target {rows[0]['target_accuracy']:.1%}", (0.985, rows[0]["target_accuracy"]),
                  xycoords=("axes fraction", "data"), xytext=(0, -4), textcoords="offset points",
                  ha="right", va="top", color=GREY, fontsize=8.5)  # fmt: skip


def _break(upper: Axes, lower: Axes) -> None:
    upper.spines["bottom"].set_visible(False)
    slash = {"marker": [(-1, -0.6), (1, 0.6)], "markersize": 8, "linestyle": "none", "color": "black", "clip_on": False}
    upper.plot([0], [0], transform=upper.transAxes, **slash)
    lower.plot([0], [1], transform=lower.transAxes, **slash)


def _scale(rows: Sequence[Row]) -> _Scale:
    """Exact rows go to a part of their own; two decades above the target's size the upper part ends."""
    size = max((row["mean_error"] / row["relative_error"] for row in rows if row["relative_error"] > 0), default=1.0)
    upper, lower = _span(rows, False, 100 * size), _span(rows, True, 100 * size)
    if upper is None or lower is None or lower[1] >= upper[0]:
        present = [part for part in (upper, lower) if part is not None] or [(-16, 0)]
        return _Scale((min(part[0] for part in present), max(part[1] for part in present)), None)
    return _Scale(upper, lower)


def _span(rows: Sequence[Row], exact: bool, cap: float) -> tuple[int, int] | None:
    values = [row[curve.column] for row in rows if row["exact"] is exact for curve in CURVES]
    values = [min(value, cap) for value in values if value]
    if not values:
        return None
    return math.floor(math.log10(min(values))), max(
        math.ceil(math.log10(max(values))), math.floor(math.log10(min(values))) + 1
    )
