"""How lines look: the figures' colours, each with a marker and a dash of its own."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .charts import Chart
from .fields import Fields
from .reported import line_name

__all__ = ["DARK", "LIGHT", "Style", "styles"]

# Okabe and Ito's, apart for every kind of colour vision; on dark paper black is white and blue is lighter
LIGHT = ("#000000", "#cc79a7", "#009e73", "#0072b2", "#d55e00", "#e69f00", "#56b4e9", "#808080")
DARK = ("#f2f2f2", "#d98fb8", "#12b88a", "#3f9be0", "#f0762b", "#e69f00", "#8fd0f7", "#9a9a9a")
SYMBOLS = ("circle", "triangle-down", "triangle-up", "square", "diamond", "star", "cross", "x")
DASHES = ("dash", "dot", "dashdot", "solid", "solid", "solid", "solid", "dash")
METHODS = {
    "gradient": 0, "adam": 0, "paper": 1, "stable": 2, "truncation": 2, "refined": 3, "refined full": 3,
    "last-layers": 4, "full": 5, "biases": 6, "refined fast": 6, "extracted": 3,
}  # fmt: skip


@dataclass(frozen=True)
class Style:
    """One line's.

    Attributes:
        colour: place in the palette; None: the place on the ramp from the first to the last line.
        ramp: 0 to 1.
        label: what the line is called in a legend.
    """

    colour: int | None
    ramp: float
    dash: str
    symbol: str
    label: str


def styles(chart: Chart, rows: Sequence[Fields]) -> dict[str, dict[str, object]]:
    """The lines of a chart in the order of its legend, as plain mappings; a method looks alike on every page.

    Cost O(rows).
    """
    if chart.line == "series":
        found = {one.label: _one(place, one.label) for place, one in enumerate(chart.series)}
    elif chart.line == "rank_line":
        ranks = sorted({row["rank"] for row in rows if row.get("rank") is not None})
        top = max(len(ranks) - 1, 1)
        found = {
            f"rank {rank}": Style(None, place / top, "solid", SYMBOLS[place % len(SYMBOLS)], f"rank {rank}")
            for place, rank in enumerate(ranks)
        }
    else:
        found = _by_method(chart, rows)
    return {name: asdict(style) for name, style in found.items()}


def _by_method(chart: Chart, rows: Sequence[Fields]) -> dict[str, Style]:
    methods = {str(row.get(chart.line, "")): str(row["method"]) for row in rows}
    names = sorted(methods, key=lambda name: (METHODS.get(methods[name], len(LIGHT)), list(methods).index(name)))
    found: dict[str, Style] = {}
    taken: set[int] = set()
    free = [place for place in range(len(LIGHT)) if place not in {METHODS.get(method) for method in methods.values()}]
    for name in names:
        place = METHODS.get(methods[name], -1)
        # the first line of a method has its colour, its other lines take what is left
        if place < 0 or place in taken:
            place = free.pop(0) if free else len(found) % len(LIGHT)
        taken.add(place)
        found[name] = _one(place, line_name(name, methods[name]))
    return found


def _one(place: int, label: str) -> Style:
    return Style(place % len(LIGHT), 0.0, DASHES[place % len(DASHES)], SYMBOLS[place % len(SYMBOLS)], label)
