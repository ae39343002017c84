"""How lines look: Okabe and Ito's colours, each with a marker and a dash of its own, for greyscale as well."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.typing import LineStyleType, RcKeyType

from .rank_curve import GREY, STYLE

__all__ = ["GREY", "LOOK", "METHODS", "REFERENCE_GREY", "LineStyle", "line_styles", "method_name"]

LOOK: dict[RcKeyType, Any] = {**STYLE, "axes.titlesize": 9.5, "axes.labelsize": 9, "legend.fontsize": 9}
REFERENCE_GREY = "#7a7a7a"


@dataclass(frozen=True)
class LineStyle:
    """One line.

    Attributes:
        colour: as matplotlib has it.
        dash: matplotlib's line style.
        marker: its marker.
        filled: whether markers are solid.
        size, width: of markers and of the line, in points.
    """

    colour: str
    dash: LineStyleType
    marker: str
    filled: bool = False
    size: float = 4.5
    width: float = 1.4


METHODS: Mapping[str, str] = {
    "gradient": "gradient (Adam LoRA)",
    "paper": "the paper's construction",
    "stable": "stable (ours)",
    "refined": "refined (ours)",
    "last-layers": "last layers tuned",
    "full": "all weights tuned",
    "biases": "biases alone tuned",
}
_OWN: Mapping[str, LineStyle] = {
    "gradient (Adam LoRA)": LineStyle("#000000", "--", "o"),
    "the paper's construction": LineStyle("#cc79a7", ":", "v", size=7),
    "stable (ours)": LineStyle("#009e73", (0, (6, 1.5, 1, 1.5)), "^", size=5),
    "refined (ours)": LineStyle("#0072b2", "-", "s", filled=True, size=3.8),
    "last layers tuned": LineStyle("#d55e00", "-", "D", filled=True, size=4),
    "all weights tuned": LineStyle("#e69f00", "-", "*", filled=True, size=9),
    "biases alone tuned": LineStyle("#56b4e9", "-", "P", filled=True, size=7),
}
# from dark to light, for lines that have no style of their own
_CYCLE = (
    LineStyle("#000000", "-", "o"),
    LineStyle("#0072b2", "--", "s", filled=True, size=3.8),
    LineStyle("#d55e00", (0, (6, 1.5, 1, 1.5)), "^", size=5),
    LineStyle("#009e73", ":", "D", filled=True, size=3.8),
    LineStyle("#cc79a7", "-", "v", size=5),
    LineStyle("#e69f00", "--", "P", filled=True, size=5.5),
    LineStyle("#56b4e9", (0, (1, 1)), "X", filled=True, size=5),
)


def method_name(method: str) -> str:
    """What a method is called in a legend.

    >>> method_name("paper")
    "the paper's construction"
    """
    return METHODS.get(method, method)


def line_styles(lines: Iterable[str], own: Mapping[str, LineStyle] | None = None) -> dict[str, LineStyle]:
    """A style for every line, no two alike among the first seven that have none of their own.

    Args:
        lines: their names, in order.
        own: styles that a figure gives to its lines, before those of the methods.
    """
    known = {**_OWN, **(own or {})}
    styles: dict[str, LineStyle] = {}
    others = 0
    for line in lines:
        if line in styles:
            continue
        if line in known:
            styles[line] = known[line]
        else:
            styles[line] = _CYCLE[others % len(_CYCLE)]
            others += 1
    return styles
