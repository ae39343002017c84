"""What a page's scripts are given: columns of the runs, filters, plots and the table's heads, as JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from markupsafe import Markup

from .charts import Chart
from .fields import Fields, panel_word
from .styles import styles

__all__ = ["as_json", "payload"]

FILTERS = {"suite": "Suite", "scale": "Scale", "method": "Method", "init": "Frozen network", "depths": "Depths",
           "seed": "Seed", "status": "Status"}  # fmt: skip
PLACES = {"scale": "scale", "init": "frozen", "depths": "depths"}
SETTINGS = {
    "seed": "seed", "line": "method", "rank": "rank", "allocation": "ranks by layer", "layers": "layers",
    "lr": "lr", "weight_decay": "weight decay",
}  # fmt: skip
LAST = {"seconds": "seconds", "cell": "cell", "commit": "commit", "message": "message"}
NOT_IN_TABLE = {"lr", "weight_decay", "looseness", "measured", "rms_error"}
FEW = 12  # choices that are shown one beside the other


def payload(
    rows: Sequence[Fields],
    charts: Sequence[Chart],
    metrics: Sequence[str],
    extra: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    beside: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Everything one page draws.

    Args:
        rows: of its runs.
        charts: its plots.
        metrics: names, in the order of the table's columns.
        extra: fields that vary beside the usual ones.
        columns: field -> head, where the table is not one of runs.
        beside: from ``reported``, for the first plot.

    Cost O(rows x fields).
    """
    present = list(dict.fromkeys(name for row in rows for name in row))
    if columns is None:
        measured = {name: name.replace("_", " ") for name in metrics if name not in NOT_IN_TABLE}
        columns = {**PLACES, **{key: key.replace("_", " ") for key in extra}, **SETTINGS, **measured, **LAST}
    drawn = [
        asdict(chart) | {"styles": styles(chart, rows), "names": _names(chart, rows), "reported": []}
        for chart in charts
    ]
    if drawn:
        drawn[0]["reported"] = list(beside)
    filters = {**FILTERS, **{key: key.replace("_", " ").capitalize() for key in extra}}
    used = set(columns) | set(filters) | {name for chart in charts for name in _used(chart)}
    if charts:
        used |= {"commit", "status", "lr", "weight_decay", "line", "method", "curve"}
    return {
        "count": len(rows),
        "fields": {name: [row.get(name) for row in rows] for name in present if name in used},
        "numbers": [name for name in present if name in used and _is_number(name, rows)],
        "columns": [{"field": name, "label": label} for name, label in columns.items() if _told(name, rows)],
        "filters": [
            {"field": name, "label": label, "open": len({row.get(name) for row in rows}) <= FEW}
            for name, label in filters.items()
            if len({row.get(name) for row in rows}) > 1
        ],
        "charts": drawn,
    }


def _names(chart: Chart, rows: Sequence[Fields]) -> dict[str, dict[str, str]]:
    """Panel field -> value -> what the heading says of it."""
    values = {field: {str(row.get(field, "")) for row in rows} for field in chart.panel}
    return {field: {value: panel_word(field, value) for value in sorted(found)} for field, found in values.items()}


def _used(chart: Chart) -> set[str]:
    names = {chart.x.field, chart.line, chart.group, *chart.panel, *(one.field for one in chart.series)}
    return names - {"", "series", "step"}


def _is_number(name: str, rows: Sequence[Fields]) -> bool:
    return all(isinstance(row[name], int | float) for row in rows if name in row)


def _told(name: str, rows: Sequence[Fields]) -> bool:
    return any(row.get(name, "") != "" for row in rows)


def as_json(content: Mapping[str, Any]) -> Markup:
    r"""JSON that can stand inside a ``script`` element: whatever is in the records, nothing of it ends the element.

    NaN and infinities, which JSON lacks, are strings that JavaScript's ``Number`` reads.

    >>> str(as_json({"message": "</script>", "value": math.inf}))
    '{"message":"\\u003c/script\\u003e","value":"Infinity"}'
    """
    text = json.dumps(_plain(content), separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _plain(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
