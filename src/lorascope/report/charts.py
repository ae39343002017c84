"""Which plots a suite has."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .fields import Fields

__all__ = ["BOUND_AGAINST_MEASURED", "Axis", "Chart", "Series", "charts"]

HOUSEKEEPING = frozenset(("bias_parameters", "lr", "parameters", "seconds", "weight_decay"))


@dataclass(frozen=True)
class Axis:
    """The horizontal one: which field, what it is called, and its scale."""

    field: str
    label: str
    kind: Literal["linear", "log", "category"] = "linear"


@dataclass(frozen=True)
class Series:
    """One field drawn upwards; ``label`` tells it from the chart's others."""

    field: str
    label: str = ""


@dataclass(frozen=True)
class Chart:
    """One plot a panel.

    Attributes:
        kind: medians over seeds with the seeds beside them, runs alone, or curves over steps.
        line: the field whose values are lines, or ``"series"``: the series are.
        panel: the fields whose values are panels.
        group: the field whose equal values share a median; the axis's own where empty.
        once: all runs of a cell say the same, so that one of them counts.
        log: the error axis starts logarithmic.
        decades: of it that are shown at first; what lies below is drawn on its lower edge.
        cap: of the logarithmic axis; what lies above is drawn on its upper edge.
        diagonal: the line on which both axes agree is drawn.
        note: what there is to know.
    """

    title: str
    x: Axis
    series: tuple[Series, ...]
    y_label: str
    kind: Literal["median", "points", "curve"] = "median"
    line: str = "line"
    panel: tuple[str, ...] = ("scale", "init", "depths")
    group: str = ""
    once: bool = False
    log: bool = True
    decades: int = 8
    cap: float = math.inf
    diagonal: bool = False
    note: str = ""


RANK = Axis("rank", "rank of every adapter")
ENTRIES = Axis("entries", "trained entries")
ALLOCATION = Axis("allocation", "ranks, layer by layer", "category")
ERRORS = (
    Series("test_mse", "test"),
    Series("test_mse_shifted", "test, shifted inputs"),
    Series("train_mse", "training"),
    Series("start_mse", "before training"),
)
ERROR = Chart("Error against rank", RANK, ERRORS, "mean squared error")
BY_ENTRIES = replace(ERROR, title="Error against trained entries", x=ENTRIES)
BY_PARAMETERS = replace(BY_ENTRIES, x=Axis("parameters", "trained entries of matrices"))
BY_ALLOCATION = replace(ERROR, title="Error against the spread of the ranks", x=ALLOCATION)
BY_DEPTH = replace(
    ERROR,
    title="Error against depth",
    x=Axis("frozen_depth", "layers of the frozen network"),
    line="rank_line",
    panel=("scale", "init", "method"),
)
ACCURACY = Chart(
    "Accuracy against rank",
    RANK,
    (Series("test_accuracy", "test"), Series("test_accuracy_shifted", "test, shifted inputs")),
    "share of inputs with the target's class",
    log=False,
)
DIVERGENCE = Chart("Divergence against rank", RANK, (Series("test_kl"),), "KL between normalised outputs")
BOUNDS = Chart(
    "Certified bound and measured error",
    RANK,
    (Series("error_bound", "certified bound"), Series("rms_error", "measured, root mean square")),
    "output error, Euclidean norm",
    note="The bound holds for every input of the certificate's domain; what is measured are the test inputs.",
)
CURVE = Chart(
    "Error against step", Axis("step", "step", "log"), (Series("curve"),), "held-out mean squared error",
    kind="curve", line="rank_line", panel=("scale", "init", "depths", "method"),
)  # fmt: skip
DISTANCE = Axis("frozen_mse", "error of the frozen network, untouched", "log")
BY_DISTANCE = replace(
    ERROR, title="Error against distance", x=DISTANCE, line="rank_line", group="level",
    panel=("scale", "method", "depths"),
)  # fmt: skip
RANK_NEEDED = Chart(
    "Rank against distance", DISTANCE,
    (Series("rank_needed", "for exactness"), Series("rank_enough", "for an error small enough")),
    "rank that it takes", group="level", once=True, log=False, panel=("scale", "method", "depths"),
)  # fmt: skip
EXACT = Chart(
    "Relative error at the rank needed", Axis("rank", "rank needed"), (Series("relative_error"),), "relative error",
    kind="points", line="method", panel=("scale", "model", "dtype"), decades=18, cap=100.0,
    note="Every run is a mark: widths, depths and seeds are in what the pointer shows.",
)  # fmt: skip
UPDATES = replace(
    EXACT, title="Norm of the largest update", series=(Series("largest_update"),), y_label="norm", cap=math.inf
)
CERTIFICATES = Chart(
    "Bounds and errors against rank",
    RANK,
    (
        Series("error_bound", "bound for every input"),
        Series("attacked_error", "largest, by gradient ascent"),
        Series("largest_error", "largest, test inputs"),
        Series("expected_error_bound", "bound of the mean"),
        Series("mean_error", "mean, test inputs"),
    ),
    "output error, Euclidean norm",
    line="series",
    panel=("scale", "init", "depths", "method"),
)
BOUND_AGAINST_MEASURED = Chart(
    "Bound against measured error", Axis("measured", "measured error", "log"), (Series("error_bound"),),
    "certified bound", kind="points", line="method", panel=("scale",), decades=20, cap=1e4, diagonal=True,
    note="Measured: the largest error found where it was looked for, else the root mean square over the test inputs. "
    "A mark below the diagonal would be a bound that does not hold.",
)  # fmt: skip
SCORE = Chart(
    "Score against rank", RANK, (Series("dev_score"),), "score on the development rows", log=False,
    note="Rank 0: the head alone. A full fine-tune has no rank, and is in the table.",
)  # fmt: skip
USUAL = (ERROR, ACCURACY, DIVERGENCE, CURVE, BOUNDS)
SPECIAL: dict[str, tuple[Chart, ...]] = {
    "bias": (BY_ENTRIES,),
    "certificates": (CERTIFICATES, BOUND_AGAINST_MEASURED),
    "convergence": (CURVE, replace(ERROR, panel=("scale", "init", "depths"))),
    "depth": (BY_DEPTH,),
    "exactness": (EXACT, UPDATES, BOUND_AGAINST_MEASURED),
    "final-layers": (BY_PARAMETERS,),
    "glue": (SCORE,),
    "methods": (BY_ENTRIES,),
    "proximity": (BY_DISTANCE, RANK_NEEDED),
    "rank-allocation": (BY_ALLOCATION,),
}


def charts(suite: str, rows: Sequence[Fields], metrics: Collection[str], extra: Sequence[str] = ()) -> list[Chart]:
    """The plots for which there is something to draw, first the one that answers the suite's question.

    Args:
        suite: its name; a suite without plots of its own has those that its metrics allow.
        rows: what :func:`fields` says of its runs.
        metrics: their names.
        extra: fields that vary beside the usual ones: each of their values has a panel of its own.

    Cost O(rows).
    """
    present = {name for row in rows for name in row}
    found = [_with_data(chart, present, extra) for chart in SPECIAL.get(suite, USUAL)]
    fitting = [chart for chart in found if chart.series]
    if fitting:
        return fitting
    others = sorted(name for name in metrics if name not in HOUSEKEEPING)
    axis = RANK if "rank" in present else Axis("seed", "seed", "category")
    return [
        _with_data(Chart(f"{name} against {axis.field}", axis, (Series(name),), name), present, extra)
        for name in others[:3]
    ]


def _with_data(chart: Chart, present: set[str], extra: Sequence[str]) -> Chart:
    series = tuple(one for one in chart.series if one.field in present)
    if len(series) == 1:
        series = (replace(series[0], label=""),)
    x = chart.x
    if x.field not in present and chart.kind != "curve":
        # adapters with a rank for each layer and layers trained whole have entries, if no rank
        if "entries" not in present:
            return replace(chart, series=())
        x = ENTRIES
    drawn = {chart.line, x.field, chart.group}
    panel = chart.panel if chart.kind == "points" else chart.panel + tuple(key for key in extra if key not in drawn)
    return replace(chart, x=x, series=series, panel=tuple(name for name in dict.fromkeys(panel) if name in present))
