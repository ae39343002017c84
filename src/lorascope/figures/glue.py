"""Figure "glue": real tasks, scores of a pretrained encoder against a random one, over LoRA ranks."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import polars as pl

from ..records import Measurement, alike
from .extent import Extent, extent
from .panels import Picture, draw, panels_of
from .places import rank
from .points import Place, Point, gather
from .style import LineStyle

__all__ = ["NAMES", "glue"]

NAMES = {
    "cola": "CoLA", "mnli": "MNLI", "mrpc": "MRPC", "qnli": "QNLI", "qqp": "QQP", "rte": "RTE", "sst2": "SST-2",
    "stsb": "STS-B",
}  # fmt: skip
FULL = "pretrained, all weights tuned"
METHODS = {
    "gradient": "trained LoRA",
    "extracted": "extracted from all weights tuned",
    "calibrated": "extracted, weighted by texts",
    "full": "all weights tuned",
}
STYLES = {
    "pretrained, trained LoRA": LineStyle("#000000", "--", "o"),
    "random, trained LoRA": LineStyle("#d55e00", ":", "D", filled=True, size=3.8),
    "pretrained, extracted from all weights tuned": LineStyle("#0072b2", "-", "s", filled=True, size=3.8),
    "pretrained, extracted, weighted by texts": LineStyle("#009e73", (0, (6, 1.5, 1, 1.5)), "^", size=5),
    FULL: LineStyle("#e69f00", "-", "*", filled=True, size=7),
}
THEIRS = ("authors", "Authors: RoBERTa, as their tables have it; their rank 0 has an untrained head.")


def glue(table: pl.DataFrame) -> Picture:
    """One panel a task: adapters trained at each rank, and those extracted from the full fine-tune.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``glue``.
    """
    source = extent(table, "glue", alike)
    points = list(_along(source, gather(source, "dev_score", _place)))
    panels = [replace(panel, metric="dev_score", share=_share(panel.points)) for panel in panels_of(points, y=SCORE)]
    panels.sort(key=lambda panel: panel.title)
    encoders = ", ".join(dict.fromkeys(str(one.spec.get("checkpoint", "")) for one in source.found))
    note = f"Encoder: {encoders}. Rank 0: the head alone; every rank trains the head as well."
    title = "GLUE: pretrained against random"
    return draw(
        source, "glue", title, panels, min(len(panels), 4), 3.3 if len(panels) > 1 else 4.6, STYLES, note, THEIRS
    )


SCORE = "score on the development rows"


def _place(one: Measurement) -> Place:
    line = f"{one.spec['init']}, {METHODS.get(one.method, one.method)}"
    return Place(NAMES.get(str(one.spec["task"]), str(one.spec["task"])), line, rank(one), rank(one))


def _along(source: Extent, points: list[Point]) -> Iterator[Point]:
    """The full fine-tune has no rank: its median goes from one end of the axis to the other."""
    ranks = sorted({float(one.rank) for one in source.found if one.rank is not None}) or [0.0]
    for point in points:
        if point.line == FULL:
            yield from (replace(point, x=x) for x in dict.fromkeys((ranks[0], ranks[-1])))
        else:
            yield point


def _share(points: Sequence[Point]) -> bool:
    """Correlations may be negative, accuracies not."""
    return all(point.low >= 0 for point in points if point.seeds)
