"""The medians that the paper's authors report, where a plot has the axes of the figure they are from."""

from collections.abc import Sequence
from typing import Any

from ..figures.places import frozen, pair
from ..figures.reference_points import ReferencePoint, reference
from ..figures.style import method_name
from ..records import Measurement
from .charts import Chart
from .runs import Run

__all__ = ["line_name", "reported"]


def line_name(line: str, method: str) -> str:
    """What the figures call a line.

    >>> line_name("gradient, biases fixed", "gradient")
    'gradient (Adam LoRA), biases fixed'
    """
    return method_name(method) + line.removeprefix(method)


def reported(chart: Chart, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Lines to be drawn beside those of the records.

    Args:
        chart: a suite's first, whose axes are those of the suite's figure.
        runs: of that suite; what is reported of networks that they do not have is left out.

    Returns:
        For each panel and line: the values of the panel's fields ``init`` and ``depths``, the line, ``x``, ``y``, and
        for each point where it was read.

    Cost O(runs + reported points).
    """
    points = [one for one in reference() if one.figure == runs[0].suite and one.metric == chart.series[0].field]
    if not points or chart.line != "line" or not {"init", "depths"} <= set(chart.panel):
        return []
    lines = {line_name(run.line, run.method): run.line for run in runs}
    found: list[dict[str, Any]] = []
    for (init, depths), run in {(run.init, run.depths): run for run in runs}.items():
        one = Measurement(run.spec, run.cell, run.method, run.rank, {})
        try:
            panels = {frozen(one), pair(one)}
        except KeyError:  # the spec is none of ours
            continue
        here = [point for point in points if point.panel in panels]
        for line in dict.fromkeys(point.line for point in here):
            chosen = sorted((point for point in here if point.line == line), key=lambda point: point.x)
            found.append({"panel": {"init": init, "depths": depths}, "line": lines.get(line, line), **_drawn(chosen)})
    return found


def _drawn(points: Sequence[ReferencePoint]) -> dict[str, Any]:
    return {
        "x": [point.x for point in points],
        "y": [point.y for point in points],
        "source": [point.source for point in points],
    }
