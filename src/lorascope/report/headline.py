"""What came out of a suite, in a line."""

from collections.abc import Sequence

from .charts import Chart
from .fields import Fields, panel_word
from .points import Curve, curves

__all__ = ["headline"]

EXACT = 1e-12  # of a mean squared error; outputs are of size 0.1 to 10
MOST = 5  # lines that are told
SHORT = {
    "entries": "trained entries", "parameters": "trained entries", "frozen_depth": "layers", "step": "steps",
    "frozen_mse": "away",
}  # fmt: skip


def headline(chart: Chart, rows: Sequence[Fields]) -> str:
    """What the suite's first plot shows: exactness and bounds where that is the question, else its first panel's lines.

    Args:
        chart: the suite's first.
        rows: of its runs, of one scale.

    Cost O(points log points).
    """
    if any("exact" in row for row in rows):
        return f"At the rank needed: {_exactness(rows)}."
    found = [curve for curve in curves(chart, rows) if curve.points]
    if not found:
        return "No run gave a result that can be drawn."
    if chart.line == "series":
        return f"{_bounds(rows)}."
    lines = [curve for curve in found if curve.panel == found[0].panel]
    body = _from_end_to_end(chart, lines) if chart.line == "rank_line" else _side_by_side(chart, lines)
    return f"{_where(chart, lines[0])}{body} ({_over(lines)})."


def _where(chart: Chart, line: Curve) -> str:
    told = {
        name: word
        for name, word in zip(chart.panel, line.panel, strict=True)
        if name != "scale" and word not in {"", "-"}
    }
    words = [f"{word} frozen network" if name == "init" else panel_word(name, word) for name, word in told.items()]
    text = ", ".join(words)
    return f"{text[0].upper()}{text[1:]}, " if text else ""


def _over(lines: Sequence[Curve]) -> str:
    counts = sorted({count for line in lines for _, _, count in line.points})
    if counts == [1]:
        return "one run each"
    return f"medians over {'-'.join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))} runs"


def _at(chart: Chart, x: float | str) -> str:
    if isinstance(x, str):
        return x
    size = f"{x:.3g}" if chart.x.field == "frozen_mse" else f"{x:.0f}" if x == int(x) else f"{x:.3g}"
    return f"{chart.x.field} {size}" if chart.x.field in {"rank", "seed"} else f"{size} {SHORT.get(chart.x.field, '')}"


def _side_by_side(chart: Chart, lines: Sequence[Curve]) -> str:
    """Values at the last place that lines share before the first of them is exact; else each line's best."""
    if chart.x.kind == "category":
        return _ends([point for line in lines for point in line.points], chart)
    lines = [line for line in lines if line.series == lines[0].series]
    values = {line.line: {float(x): value for x, value, _ in line.points} for line in lines}
    exact = {name: min(x for x, value in of.items() if value < EXACT)
             for name, of in values.items() if chart.log and min(of.values()) < EXACT}  # fmt: skip
    shared = set.intersection(*map(set, values.values()))
    places = [x for x in shared if x < min(exact.values(), default=float("inf"))]
    if not places:
        best = min if chart.log else max
        told = [(name, best(of, key=lambda x, of=of: (of[x], x))) for name, of in values.items()]
        best_of = ", ".join(f"{values[name][x]:.2g} at {_at(chart, x)} ({name})" for name, x in told[:MOST])
        return f"{chart.y_label} at best: {best_of}"
    at = max(places)
    ordered = sorted(values, key=lambda name: values[name][at], reverse=not chart.log)
    told = ", ".join(f"{values[name][at]:.2g} ({name})" for name in ordered[:MOST])
    text = f"{chart.y_label} at {_at(chart, at)}: {told}"
    if exact:
        first = min(exact.values())
        text += f"; below {EXACT:g} from {_at(chart, first)} on: {', '.join(n for n, x in exact.items() if x == first)}"
    return text


def _ends(points: Sequence[tuple[float | str, float, int]], chart: Chart) -> str:
    low, high = min(points, key=lambda point: point[1]), max(points, key=lambda point: point[1])
    least, most = (f"{_at(chart, x)} ({value:.2g})" for x, value, _ in (low, high))
    return f"{chart.y_label} lowest at {least}, highest at {most}"


def _from_end_to_end(chart: Chart, lines: Sequence[Curve]) -> str:
    """Lines are ranks: what the first, the middle and the last of them do along the axis."""
    told = dict.fromkeys((lines[0], lines[len(lines) // 2], lines[-1]))
    first, last = lines[0].points[0][0], lines[0].points[-1][0]
    values = ", ".join(f"{line.points[0][1]:.2g} to {line.points[-1][1]:.2g} ({line.line})" for line in told)
    return f"{chart.y_label} from {_at(chart, first)} to {_at(chart, last)}: {values}"


def _exactness(rows: Sequence[Fields]) -> str:
    parts: list[str] = []
    for method in sorted({row["method"] for row in rows}):
        chosen = [row.get("exact", 0) for row in rows if row["method"] == method]
        parts.append(f"{method} exact in {sum(map(bool, chosen))} of {len(chosen)} settings")
    return ", ".join(parts)


def _bounds(rows: Sequence[Fields]) -> str:
    told = [row for row in rows if "measured" in row]
    holds = sum(row["measured"] <= row["error_bound"] for row in told)
    loose = sorted(row["looseness"] for row in told if "looseness" in row)
    text = f"The bound holds in {holds} of {len(told)} runs"
    return f"{text}; at the median it is {loose[len(loose) // 2]:.2g} times the largest error found" if loose else text
