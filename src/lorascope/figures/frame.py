"""Where things are: title, legend, panels and caption, each with the room that its text takes."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .style import GREY, LineStyle

__all__ = ["Entry", "framed"]

# inches
PANEL, LEFT, RIGHT, BETWEEN, UNDER, EDGE = 2.35, 0.82, 0.2, 0.72, 0.95, 0.12
TITLE, ROW, HANDLE, LETTER, SMALL_LETTER = 0.56, 0.2, 0.75, 0.076, 0.0675


@dataclass(frozen=True)
class Entry:
    """Of the legend."""

    label: str
    style: LineStyle


def framed(
    title: str,
    subtitle: str,
    entries: Sequence[Entry],
    caption: str,
    panels: int,
    columns: int,
    width: float,
    tick_lines: int = 1,
) -> tuple[Figure, list[Axes]]:
    """An empty figure with everything around its panels.

    Args:
        title, subtitle: at the top.
        entries: of the legend below them.
        caption: at the bottom, set in as many lines as it needs.
        panels: how many, row by row.
        columns: panels in a row, at most.
        width: of a panel, in inches.
        tick_lines: lines of text below an axis that its ticks take.
    """
    columns = min(columns, panels)
    rows = math.ceil(panels / columns)
    total = LEFT + columns * width + (columns - 1) * BETWEEN + RIGHT
    in_row = _columns([entry.label for entry in entries], total)
    below = textwrap.wrap(caption, int((total - 2 * EDGE) / SMALL_LETTER))
    top = TITLE + ROW * math.ceil(len(entries) / in_row) + 0.36
    ticks = 0.15 * (tick_lines - 1)
    bottom, between = 0.62 + ticks + 0.16 * len(below), UNDER + ticks
    height = top + rows * PANEL + (rows - 1) * between + bottom
    figure = Figure(figsize=(total, height))
    grid = figure.add_gridspec(
        rows, columns, left=LEFT / total, right=1 - RIGHT / total, top=1 - top / height, bottom=bottom / height,
        wspace=BETWEEN / width, hspace=between / PANEL,
    )  # fmt: skip
    figure.text(EDGE / total, 1 - 0.09 / height, title, va="top", fontsize=11.5, fontweight="bold")
    figure.text(EDGE / total, 1 - 0.34 / height, subtitle, va="top", fontsize=9, color=GREY)
    figure.legend([_handle(entry.style) for entry in entries], [entry.label for entry in entries], loc="upper left",
                  ncols=in_row, frameon=False, bbox_to_anchor=((EDGE - 0.03) / total, 1 - TITLE / height),
                  handlelength=3.2, columnspacing=1.6, borderaxespad=0, borderpad=0, labelspacing=0.3)  # fmt: skip
    figure.text(EDGE / total, 0.06 / height, "\n".join(below), va="bottom", fontsize=8, color=GREY, linespacing=1.25)
    return figure, [figure.add_subplot(grid[place // columns, place % columns]) for place in range(panels)]


def _columns(labels: Sequence[str], total: float) -> int:
    """As many labels side by side as the width holds; they stand in columns as wide as the widest."""
    widest = max(len(label) for label in labels) * LETTER + HANDLE
    return max(1, min(len(labels), int((total - EDGE) / widest)))


def _handle(style: LineStyle) -> Line2D:
    return Line2D(
        [], [], color=style.colour, linestyle=style.dash, marker=style.marker, linewidth=style.width,
        markersize=style.size, markerfacecolor=style.colour if style.filled else "white",
    )  # fmt: skip
