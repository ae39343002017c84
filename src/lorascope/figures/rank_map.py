"""Ranks of a fine-tune as a heat map: layers down, modules across."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ..errors import SpecError
from .rank_curve import STYLE

__all__ = ["rank_map"]

Row = Mapping[str, Any]

_LEGIBLE = 40  # cells down, up to which each carries its number
_DARK = 0.55  # of the colour scale, from where on numbers are black


def rank_map(rows: Sequence[Row], title: str) -> Figure:
    """One cell a matrix, coloured by rank on a logarithmic scale, with the rank written in it.

    Args:
        rows: with ``layer`` and ``module`` (names, in the order to show) and ``rank`` (None: beyond what was computed);
            rows of one layer and module show their largest rank.
        title: above the map.

    Returns:
        A figure to be saved at 200 dpi; it belongs to no window.

    Raises:
        SpecError: no rows.

    Cost O(rows).
    """
    if not rows:
        raise SpecError("rank_map needs at least one row, got none")
    layers, modules = (list(dict.fromkeys(row[key] for row in rows)) for key in ("layer", "module"))
    ranks: dict[tuple[str, str], int | None] = {}
    for row in rows:
        at, rank = (row["layer"], row["module"]), row["rank"]
        known = ranks.get(at, 0)
        ranks[at] = None if rank is None or known is None else max(rank, known)
    grid = [[_colour(ranks.get((layer, module), 0)) for module in modules] for layer in layers]
    top = max((value for line in grid for value in line if not math.isnan(value)), default=1.0)
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        height = 1.9 + 0.24 * min(len(layers), 2 * _LEGIBLE)
        figure = Figure(figsize=(2.6 + 0.55 * len(modules), height), layout="constrained")
        axis = figure.add_subplot()
        image = axis.imshow(grid, cmap="viridis", norm=LogNorm(1, max(top, 2)), aspect="auto")
        axis.set_xticks(range(len(modules)), modules, rotation=60, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(layers)), [layer or "(outside)" for layer in layers])
        axis.tick_params(length=0)
        axis.set_title(title)
        bar = figure.colorbar(image, ax=axis, label="rank")
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        bar.ax.yaxis.set_minor_formatter(lambda *_: "")
        if len(layers) <= _LEGIBLE:
            _numbers(axis, layers, modules, ranks, max(top, 2))
    return figure


def _colour(rank: int | None) -> float:
    """Nothing where nothing changed, or where the rank is unknown."""
    return float(rank) if rank else math.nan


def _numbers(
    axis: Axes, layers: Sequence[str], modules: Sequence[str], ranks: Mapping[tuple[str, str], int | None], top: float
) -> None:
    for (layer, module), rank in ranks.items():
        share = math.log(rank) / math.log(top) if rank else 1.0
        text = ">" if rank is None else str(rank)
        colour = "black" if share > _DARK or not rank else "white"
        axis.text(modules.index(module), layers.index(layer), text, ha="center", va="center", color=colour, fontsize=7)
