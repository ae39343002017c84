"""Figure "glue-prediction": the rank that a full fine-tune asks for, beside the rank that training takes."""

import math

import polars as pl

from ..errors import SpecError
from ..records import KEPT, LEAST_GAIN, Prediction, alike, predictions
from .axes import Panel
from .extent import extent
from .glue import NAMES
from .panels import Picture, draw
from .points import Point
from .style import LineStyle

__all__ = ["glue_prediction"]

PANEL = "rank, task by task"
TOLD, TRAINED, EXTRACTED = "recommended by the report on texts", "trained LoRA", "extracted from all weights tuned"
CALIBRATED = "extracted, weighted by texts"
BEYOND = "Arrows at the top: no rank that was tried is enough."
STYLES = {
    TOLD: LineStyle("#0072b2", "none", "s", filled=True, size=5),
    f"{TRAINED}: least with {KEPT:.0%} of the gain": LineStyle("#000000", "none", "o", size=7),
    f"{EXTRACTED}: least with {KEPT:.0%} of the gain": LineStyle("#d55e00", "none", "D", size=4.5),
    f"{CALIBRATED}: least with {KEPT:.0%} of the gain": LineStyle("#009e73", "none", "v", size=6),
}


def glue_prediction(table: pl.DataFrame) -> Picture:
    """One place a task; an arrow at the top where no rank that was tried was enough.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``glue``, or no full fine-tune among them that gains.
    """
    source = extent(table, "glue", alike)
    told = predictions(source.found)
    if not any(one.tells for one in told):
        raise SpecError(
            f"the figure glue-prediction needs a full fine-tune that gains at least {100 * LEAST_GAIN:g} points over "
            f"the head alone, got none in {len(told)} tasks; run more of it: lorascope run glue"
        )
    points = [point for place, one in enumerate(told) for point in _points(place, one)]
    names = {float(place): _name(one) for place, one in enumerate(told)}
    panel = Panel(PANEL, points, "task", "rank of every adapter", names=names, beyond=BEYOND, metric="")
    note = (
        f"The gain is the full fine-tune's over the head alone, means over seeds; where it is under "
        f"{100 * LEAST_GAIN:g} points there is nothing to predict. Recommended: median over seeds."
    )
    title = "Rank predicted and rank that training takes"
    return draw(source, "glue-prediction", title, [panel], 1, max(4.6, 1.25 * len(told)), STYLES, note)


def _name(one: Prediction) -> str:
    name = NAMES.get(one.task, one.task)
    if one.gain is None:
        return f"{name}\nhead alone\nnot run"
    return f"{name}\n+{100 * one.gain:.1f}\npoints" if one.tells else f"{name}\nno gain\nto\npredict"


def _points(place: int, one: Prediction) -> list[Point]:
    if not one.tells:
        return []
    lines = list(STYLES)
    told = sorted(one.recommended)
    found = [_point(place, lines[0], one.predicted, told[0], told[-1], one.seeds)] if told else []
    for line, scores in zip(lines[1:], one.ways, strict=True):
        if scores:
            least = one.least(scores)
            rank = math.inf if least is None else float(least)
            found.append(_point(place, line, rank, rank, rank, one.seeds))
    return found


def _point(place: int, line: str, rank: float | None, low: float, high: float, seeds: int) -> Point:
    return Point(PANEL, line, float(place), math.nan if rank is None else rank, low, high, seeds)
