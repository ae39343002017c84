"""Tables that need no script: exactness, certificates, and where the records come from."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ..records import KEPT, Measurement, predictions
from .fields import Fields
from .points import natural
from .runs import Run
from .suites import place as reading_order

__all__ = ["Table", "bounds", "certificates", "exactness", "origins", "predicted", "short"]


@dataclass(frozen=True)
class Table:
    """Words in rows.

    Attributes:
        columns: heads; those of numbers end in ``#``, which is not shown.
        rows: one word a column.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def short(value: float | None) -> str:
    """Two digits, infinities and what is no number in words; a dash where there is nothing.

    >>> short(0.012345), short(math.inf), short(None)
    ('0.012', 'infinite', '-')
    """
    if value is None:
        return "-"
    if math.isnan(value):
        return "no number"
    return f"{value:.2g}" if math.isfinite(value) else ("infinite" if value > 0 else "-infinite")


def exactness(rows: Sequence[Fields]) -> Table:
    """At the rank needed: in how many settings a construction is the target, and how far off it is elsewhere.

    Args:
        rows: of runs; those without ``exact`` or a failure are passed over.

    Cost O(rows log rows).
    """
    told = [row for row in rows if "exact" in row or row["status"] == "failed"]
    lines: list[tuple[str, ...]] = []
    for (scale, model, dtype, depth, method), group in _grouped(told, ("scale", "model", "dtype", "target", "method")):
        ok = [row for row in group if "exact" in row]
        errors = [_number(row["relative_error"]) for row in ok if "relative_error" in row]
        lines.append((
            scale, model, dtype, depth, method, str(len(group)), str(sum(bool(row["exact"]) for row in ok)),
            str(len(group) - len(ok)), short(median(errors) if errors else None), short(max(errors, default=None)),
        ))  # fmt: skip
    heads = "scale", "model", "dtype", "target depth", "method", "settings#", "exact#", "failed#"
    return Table((*heads, "median relative error#", "largest#"), tuple(lines))


def certificates(rows: Sequence[Fields]) -> Table:
    """Medians of bounds and errors at each rank, and in how many runs both bounds hold.

    Cost O(rows log rows).
    """
    told = [row for row in rows if "measured" in row and ("largest_error" in row or "attacked_error" in row)]
    lines: list[tuple[str, ...]] = []
    for (scale, init, depths, method, rank), group in _grouped(told, ("scale", "init", "depths", "method", "rank")):
        middles = [
            short(median(values) if (values := [_number(row[name]) for row in group if name in row]) else None)
            for name in ("error_bound", "attacked_error", "largest_error", "looseness", "expected_error_bound",
                         "mean_error")
        ]  # fmt: skip
        lines.append((scale, init, depths, method, rank, *middles, _holds(group)))
    heads = "scale", "frozen", "depths", "method", "rank#", "bound#", "largest, attacked#", "largest, test#"
    return Table((*heads, "bound / largest#", "bound of the mean#", "mean, test#", "bound holds#"), tuple(lines))


def bounds(rows: Sequence[Fields]) -> Table:
    """Suite by suite: in how many runs the certified bound lies above what was measured, and how far.

    Cost O(rows log rows).
    """
    told = [row for row in rows if "measured" in row]
    lines: list[tuple[str, ...]] = []
    for (suite, scale, init, depths, method), group in _grouped(told, ("suite", "scale", "init", "depths", "method")):
        loose = [_number(row["looseness"]) for row in group if "looseness" in row]
        middle, most = (short(median(loose)), short(max(loose))) if loose else ("-", "-")
        lines.append((suite, scale, init, depths, method, _holds(group), middle, most))
    heads = "suite", "scale", "frozen", "depths", "method", "bound holds#"
    return Table((*heads, "median bound / measured#", "largest bound / measured#"), tuple(lines))


def predicted(runs: Sequence[Run]) -> Table:
    """Task by task: what a full fine-tune gains, the rank recommended for it, and the rank that training takes.

    Args:
        runs: of the suite ``glue``, of one scale.

    Cost O(runs).
    """
    found = [Measurement(run.spec, run.cell, run.method, run.rank, run.metrics) for run in runs]
    lines = [
        (
            one.task, str(one.seeds), _points(one.head), _points(one.full), _points(one.gain),
            *((short(one.predicted), *(_rank(one.least(some)) if some else "-" for some in one.ways))
              if one.tells else ("no gain to predict", "-", "-", "-")),
        )
        for one in predictions(found)
    ]  # fmt: skip
    heads = "task", "seeds#", "head alone#", "all weights#", "gain, points#", "recommended rank#"
    kept = f"with {KEPT:.0%} of the gain#"
    ways = "least trained rank", "least extracted rank", "least rank extracted by texts' weights"
    return Table((*heads, *(f"{way} {kept}" for way in ways)), tuple(lines))


def _points(share: float | None) -> str:
    return "not run" if share is None else f"{100 * share:.1f}"


def _rank(rank: int | None) -> str:
    return "none tried" if rank is None else str(rank)


def origins(runs: Sequence[Run]) -> Table:
    """What computed the records: version, commit and device, with the cells and seconds of each.

    Cost O(runs log runs).
    """
    lines: list[tuple[str, ...]] = []
    key = [(run.suite, run.scale, run.version, _shortened(run.commit or "-"), run.device) for run in runs]
    for place in sorted(set(key), key=lambda words: (reading_order(words[0]), words)):
        chosen = [run for run, at in zip(runs, key, strict=True) if at == place]
        lines.append((*place, str(len({run.cell for run in chosen})), f"{sum(run.seconds for run in chosen):.0f}"))
    return Table(("suite", "scale", "version", "commit", "device", "cells#", "seconds#"), tuple(lines))


def _shortened(commit: str) -> str:
    """Ten digits tell commits apart; what stands behind them stays."""
    return re.sub(r"^([0-9a-f]{10})[0-9a-f]+", r"\1", commit)


def _grouped(rows: Sequence[Fields], keys: Sequence[str]) -> list[tuple[tuple[str, ...], list[Fields]]]:
    groups: dict[tuple[str, ...], list[Fields]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row.get(key, "-")) for key in keys), []).append(row)
    return sorted(groups.items(), key=lambda group: _order(keys, group[0]))


def _order(keys: Sequence[str], words: Sequence[str]) -> list[object]:
    """Suites as they are to be read, other words and numbers as a reader would."""
    return [reading_order(word) if key == "suite" else natural(word) for key, word in zip(keys, words, strict=True)]


def _number(value: float) -> float:
    """What is no number counts as infinite: it must not pass for a small error."""
    return math.inf if math.isnan(value) else value


def _holds(rows: Sequence[Fields]) -> str:
    return f"{sum(row['measured'] <= row['error_bound'] for row in rows)} of {len(rows)}"
