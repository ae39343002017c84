"""What the paper's authors report, shipped as data: read from their notebooks, to be drawn beside ours."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["ReferencePoint", "reference"]


@dataclass(frozen=True)
class ReferencePoint:
    """One reported value.

    Attributes:
        figure, panel, line: where it belongs, by the names that our figures have.
        x, y: as there.
        metric: what ``y`` is.
        source: file and cell, and how it was read.
    """

    figure: str
    panel: str
    line: str
    x: float
    y: float
    metric: str
    source: str


@cache
def reference() -> tuple[ReferencePoint, ...]:
    """All reported values that are shipped, in the files' order.

    >>> {point.metric for point in reference() if point.figure == "linear"}
    {'test_mse'}
    """
    folder = files("lorascope.figures") / "reference"
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".csv"))
    return tuple(
        ReferencePoint(
            row["figure"], row["panel"], row["line"], float(row["x"]), float(row["y"]), row["metric"], row["source"]
        )
        for name in names
        for row in csv.DictReader((folder / name).read_text(encoding="utf-8").splitlines())
    )
