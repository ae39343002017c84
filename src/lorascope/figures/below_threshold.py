"""Error against rank below the threshold, method by method, and relative to LoRA trained by Adam."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from ..errors import SpecError
from .rank_curve import GREY, STYLE

__all__ = ["below_threshold"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Line:
    method: str
    label: str
    colour: str
    style: str
    marker: str
    face: str


# Okabe and Ito's colours, each with a marker and a dash of its own, so that greyscale tells them apart as well.
LINES = (
    _Line("paper", "the paper's construction", "#cc79a7", ":", "v", "white"),
    _Line("truncation", "weighted truncation (closed form)", "#e69f00", "-.", "^", "white"),
    _Line("adam", "LoRA by Adam, best of its settings", "#000000", "--", "o", "white"),
    _Line("refined fast", "refined, fast", "#56b4e9", "-", "D", "white"),
    _Line("refined full", "refined, full", "#0072b2", "-", "s", "#0072b2"),
)
BASELINE = "adam"


def below_threshold(rows: Sequence[Row]) -> Figure:
    """One column a panel: median error over seeds above, its ratio to Adam's seed by seed beneath.

    Args:
        rows: with ``panel`` (title), ``method``, ``rank``, ``seed`` and ``value`` (mean squared error); methods without
            a line of their own are left out, and so are values not above zero.

    Returns:
        A figure to be saved at 200 dpi; it belongs to no window.

    Raises:
        SpecError: no rows.

    Cost O(rows).
    """
    if not rows:
        raise SpecError("below_threshold needs at least one row, got none")
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(3.1 * len(panels), 6.2), 5.6))
        grid = figure.add_gridspec(
            2, len(panels), height_ratios=[1.45, 1], left=0.075 if len(panels) > 2 else 0.13, right=0.99, top=0.83,
            bottom=0.085, hspace=0.1, wspace=0.27,
        )  # fmt: skip
        for column, panel in enumerate(panels):
            upper, lower = (figure.add_subplot(grid[line, column]) for line in range(2))
            values = _values([row for row in rows if row["panel"] == panel])
            _errors(upper, values)
            _ratios(lower, values)
            upper.set_title(panel)
            if not column:
                upper.set_ylabel("mean squared error, median")
                lower.set_ylabel("ratio to Adam, each seed")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="upper left", ncols=3, frameon=False, bbox_to_anchor=(0.06, 0.995),
                      handlelength=3.2)  # fmt: skip
    return figure


def _values(rows: Sequence[Row]) -> dict[str, dict[int, dict[int, float]]]:
    """Method -> rank -> seed -> value."""
    found: dict[str, dict[int, dict[int, float]]] = {}
    for row in rows:
        if row["value"] is not None and row["value"] > 0:
            found.setdefault(row["method"], {}).setdefault(row["rank"], {})[row["seed"]] = row["value"]
    return {method: dict(sorted(by_rank.items())) for method, by_rank in found.items()}


def _errors(axis: Axes, values: dict[str, dict[int, dict[int, float]]]) -> None:
    for line in LINES:
        by_rank = values.get(line.method, {})
        axis.plot(
            list(by_rank), [median(seeds.values()) for seeds in by_rank.values()], line.style, color=line.colour,
            marker=line.marker, markerfacecolor=line.face, markersize=5, linewidth=1.4, label=line.label,
        )  # fmt: skip
    axis.set_yscale("log")
    _ranks(axis, values)
    axis.tick_params(axis="x", length=0, labelbottom=False)


def _ratios(axis: Axes, values: dict[str, dict[int, dict[int, float]]]) -> None:
    """The refined ones' errors over Adam's on the same networks: every seed a mark, the medians joined."""
    base = values.get(BASELINE, {})
    axis.axhline(1, color=GREY, linewidth=1)
    for line in LINES:
        if not line.method.startswith("refined"):
            continue
        shares = {
            rank: [value / base[rank][seed] for seed, value in seeds.items() if seed in base.get(rank, {})]
            for rank, seeds in values.get(line.method, {}).items()
        }
        shares = {rank: found for rank, found in shares.items() if found}
        axis.plot(
            list(shares), [median(found) for found in shares.values()], line.style, color=line.colour, linewidth=1.4
        )
        for rank, found in shares.items():
            axis.plot(
                [rank] * len(found), found, linestyle="none", color=line.colour, marker=line.marker,
                markerfacecolor=line.face, markersize=4,
            )  # fmt: skip
    axis.set_yscale("log")
    lowest, highest = axis.get_ylim()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest / lowest < 100 else (1,)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
    _ranks(axis, values)
    axis.set_xlabel("rank of every adapter")


def _ranks(axis: Axes, values: dict[str, dict[int, dict[int, float]]]) -> None:
    ranks = sorted({rank for by_rank in values.values() for rank in by_rank})
    axis.xaxis.set_major_locator(FixedLocator(ranks))
    axis.set_xlim(ranks[0] - 0.3, ranks[-1] + 0.3)
