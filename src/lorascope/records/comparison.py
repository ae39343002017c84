"""A cell computed again, beside what was recorded of it."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["NEAR", "NOTHING", "Change", "Comparison", "compare"]

NEAR = 1e-5  # relative difference up to which two values are the same
NOTHING = 1e-9  # two values of at most this are both what rounding leaves of zero
_ORIGIN = ("version", "commit", "device")

Rows = Sequence[Mapping[str, Any]]
Key = tuple[str, int | None, str | None]


@dataclass(frozen=True)
class Change:
    """One metric, over all methods and ranks that both have.

    Attributes:
        metric: its name.
        values: how many were compared.
        absolute, relative: largest difference, and the largest in proportion to the larger of the two values; infinite
            where one of them is infinite or no number and the other is not.
        same: every value is, to 1e-5, or both are below 1e-9.
    """

    metric: str
    values: int
    absolute: float
    relative: float
    same: bool


@dataclass(frozen=True)
class Comparison:
    """What is the same and what is not.

    Attributes:
        cell: its name.
        changes: metric by metric.
        apart: in words, what only one of them has, and what else they say differently: version, commit, device,
            messages (of gradient methods, the engine).
    """

    cell: str
    changes: tuple[Change, ...]
    apart: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether all values are; how they came about may still differ."""
        return all(change.same for change in self.changes) and not any(" only" in one for one in self.apart)


def compare(recorded: Rows, again: Rows) -> Comparison:
    """The rows of one cell, recorded and computed again.

    Args:
        recorded: from ``records.read``, one at least.
        again: of the same cell.

    Cost O(rows).

    >>> old = {"cell": "c", "method": "stable", "rank": 1, "metric": "test_mse", "value": 0.5, "message": "",
    ...        "version": "0.1", "commit": None, "device": "cpu", "status": "ok"}
    >>> found = compare([old], [old | {"value": 0.5000001, "device": "cuda"}])
    >>> found.same, found.apart
    (True, ('device cpu, now cuda',))
    """
    before, after = _by_key(recorded), _by_key(again)
    pairs: dict[str, list[tuple[float, float]]] = {}
    for key in before:
        if key in after and key[2] is not None:
            pairs.setdefault(key[2], []).append((before[key]["value"], after[key]["value"]))
    changes = tuple(_change(metric, values) for metric, values in pairs.items())
    return Comparison(str(recorded[0]["cell"]), changes, tuple(_apart(before, after)))


def _by_key(rows: Rows) -> dict[Key, Mapping[str, Any]]:
    return {(row["method"], row["rank"], row["metric"]): row for row in rows}


def _change(metric: str, pairs: Sequence[tuple[float, float]]) -> Change:
    absolute = [_difference(old, new) for old, new in pairs]
    relative = [_proportion(one, old, new) for one, (old, new) in zip(absolute, pairs, strict=True)]
    tiny = [max(abs(old), abs(new)) <= NOTHING for old, new in pairs]
    same = all(share <= NEAR or little for share, little in zip(relative, tiny, strict=True))
    return Change(metric, len(pairs), max(absolute), max(relative), same)


def _difference(old: float, new: float) -> float:
    if old == new or (math.isnan(old) and math.isnan(new)):
        return 0.0
    found = abs(old - new)
    return math.inf if math.isnan(found) else found


def _proportion(difference: float, old: float, new: float) -> float:
    return difference if difference in (0.0, math.inf) else difference / max(abs(old), abs(new))


def _apart(before: Mapping[Key, Mapping[str, Any]], after: Mapping[Key, Mapping[str, Any]]) -> Iterator[str]:
    for rows, others, whose in ((before, after, "only recorded"), (after, before, "only now")):
        alone = [key for key in rows if key not in others]
        if alone:
            named = ", ".join(_named(rows[key]) for key in alone[:3]) + (", ..." if len(alone) > 3 else "")
            yield f"{len(alone)} row{'' if len(alone) == 1 else 's'} {whose} ({named})"
    for column in _ORIGIN:
        old, new = (_distinct(rows, column) for rows in (before, after))
        if old != new:
            yield f"{column} {old}, now {new}"
    changed = [key for key in before if key in after and before[key]["message"] != after[key]["message"]]
    if changed:
        old, new = (json.dumps(str(rows[changed[0]]["message"]), ensure_ascii=False) for rows in (before, after))
        yield f"messages of {len(changed)} rows, the first {old}, now {new}"


def _named(row: Mapping[str, Any]) -> str:
    at = "" if row["rank"] is None else f" at rank {row['rank']}"
    return f"{row['metric'] or 'failure of'} {row['method']}{at}"


def _distinct(rows: Mapping[Key, Mapping[str, Any]], column: str) -> str:
    return " and ".join(sorted({str(row[column] or "unknown") for row in rows.values()}))
