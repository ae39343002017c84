"""Error, certified bound and accuracy against rank, for each frozen depth."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter
from matplotlib.typing import RcKeyType

from ..errors import SpecError

__all__ = ["rank_curve"]

Row = Mapping[str, Any]

STYLE: dict[RcKeyType, Any] = {
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
    size: float


# Okabe and Ito's vermilion and blue: apart for every kind of colour vision; bounds are dashed and hollow.
CURVES = (
    _Curve("error_bound", "largest error: certified for every input", "#d55e00", "--", "o", "white", 7),
    _Curve("max_error", "largest error: measured on the test images", "#d55e00", "-", "o", "#d55e00", 6.5),
    _Curve("expected_error_bound", "mean error: certified for the training images", "#0072b2", "--", "s", "white", 4),
    _Curve("mean_error", "mean error: measured on the test images", "#0072b2", "-", "s", "#0072b2", 4),
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
        figure.legend(handles, labels, loc="upper left", ncols=2, frameon=False, bbox_to_anchor=(0.075, 0.998),
                      handlelength=3, columnspacing=2.5)  # fmt: skip
    return figure


def _column(axes: list[Axes], rows: list[Row], scale: _Scale) -> None:
    first = rows[0]
    _errors(axes[0], rows, scale.upper, None if scale.lower is None else False)
    if scale.lower is not None:
        _errors(axes[1], rows, scale.lower, True)
        _break(axes[0], axes[1])
    _accuracy(axes[-1], rows)
    ends = rows[0]["rank"], rows[-1]["rank"]
    margin = 0.05 * max(ends[1] - ends[0], 1)
    for axis in axes:
        axis.axvline(first["rank_needed"], color=GREY, linewidth=1, linestyle=(0, (1, 1.5)), zorder=1)
        axis.axvspan(first["rank_needed"], ends[1] + margin, color="#f3f3f3", linewidth=0, zorder=0)
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


def _errors(axis: Axes, rows: list[Row], decades: tuple[int, int], exact: bool | None) -> None:
    """The rows of one part of the axis: the exact ones, the others, or (None) all of them."""
    low, high = 10.0 ** decades[0], 10.0 ** decades[1]
    for curve in CURVES:
        points = [
            (row["rank"], max(row[curve.column], low))
            for row in rows
            if row[curve.column] is not None and exact in (None, row["exact"])
        ]
        inside, above = ([point for point in points if (point[1] > high) is over] for over in (False, True))
        axis.plot(
            [rank for rank, _ in inside], [value for _, value in inside], curve.line, color=curve.colour,
            marker=curve.marker, markerfacecolor=curve.face, markersize=curve.size, linewidth=1.5, label=curve.label,
        )  # fmt: skip
        for rank, value in above:
            axis.plot([rank], [high], "^", color=curve.colour, markerfacecolor=curve.face, markersize=7, clip_on=False)
            axis.annotate(f"{value:.0e}", (rank, high), xytext=(7, -4), textcoords="offset points", color=curve.colour,
                          fontsize=8.5, va="center")  # fmt: skip
    axis.set_yscale("log")
    axis.set_ylim(low, high)
    step = max(1, math.ceil((decades[1] - decades[0]) / 5))
    axis.yaxis.set_major_locator(FixedLocator([10.0**power for power in range(decades[0], decades[1] + 1, step)]))
    axis.yaxis.set_minor_locator(NullLocator())


def _accuracy(axis: Axes, rows: list[Row]) -> None:
    axis.axhline(rows[0]["target_accuracy"], color=GREY, linewidth=1)
    axis.plot([row["rank"] for row in rows], [row["accuracy"] for row in rows], "-", color="#009e73", marker="D",
              markersize=4, linewidth=1.5)  # fmt: skip
    axis.set_ylim(0, 1.08)
    axis.yaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.annotate(f"line: the target's {rows[0]['target_accuracy']:.1%}", (0.5, rows[0]["target_accuracy"]),
                  xycoords=("axes fraction", "data"), xytext=(0, -4), textcoords="offset points",
                  ha="center", va="top", color=GREY, fontsize=8.5)  # fmt: skip


def _break(upper: Axes, lower: Axes) -> None:
    upper.spines["bottom"].set_visible(False)
    look = {"markersize": 8, "linestyle": "none", "color": "black", "clip_on": False}
    slash: dict[str, Any] = {"marker": [(-1, -0.6), (1, 0.6)], **look}
    upper.plot([0], [0], transform=upper.transAxes, **slash)
    lower.plot([0], [1], transform=lower.transAxes, **slash)


def _scale(rows: Sequence[Row]) -> _Scale:
    """Exact rows go to a part of their own; the upper part ends a decade above the target's outputs."""
    size = max((row["mean_error"] / row["relative_error"] for row in rows if row["relative_error"] > 0), default=1.0)
    upper, lower = (_span([row for row in rows if row["exact"] is exact], 10 * size) for exact in (False, True))
    if upper and lower and lower[1] < upper[0]:
        return _Scale(upper, lower)
    both = [part for part in (upper, lower) if part] or [(-1, 0)]
    return _Scale((min(part[0] for part in both), max(part[1] for part in both)), None)


def _span(rows: Sequence[Row], cap: float) -> tuple[int, int] | None:
    """Whole decades around all errors above rounding, none beyond the cap's."""
    values = [row[curve.column] for row in rows for curve in CURVES]
    values = [min(max(value, 1e-16), cap) for value in values if value is not None]
    if not values:
        return None
    # a quarter of a decade of room, so that no marker is cut by the edge
    low = math.floor(math.log10(min(values)) - 0.25)
    return low, max(math.ceil(math.log10(max(values)) + 0.25), low + 1)
