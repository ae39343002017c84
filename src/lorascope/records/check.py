"""Rows that fit the schema, or everything that is wrong with them."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from reprlib import Repr
from typing import Any, cast

from ..errors import SpecError
from .schema import COLUMNS, KEY, STATUSES, Column, Row

__all__ = ["check_name", "checked"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")  # names become file names
_NAME_NEEDS = "must be 1 to 100 letters, digits, '_', '-' or '.', the first a letter or a digit"
_SHOWN = 100  # faults in one message
_quote = Repr()
_quote.maxstring = _quote.maxother = 60


def check_name(what: str, name: str) -> str:
    """The name, if a file can be called so.

    Raises:
        SpecError: it cannot.

    >>> check_name("suite", "figure-3")
    'figure-3'
    """
    if not _NAME.fullmatch(name):
        raise SpecError(f"{what} {_NAME_NEEDS}, got {_quote.repr(name)}; rename it")
    return name


def checked(rows: Sequence[Mapping[str, object]]) -> list[Row]:
    """The rows as plain Python values in the schema's order.

    Args:
        rows: mappings of all columns and no other; numpy's integers and floats pass for Python's.

    Raises:
        SpecError: columns unknown or missing, values of the wrong type, rows that contradict themselves or repeat each
            other; all faults at once.

    Cost O(rows).
    """
    faults: list[str] = []
    fitting: list[Row] = []
    seen: dict[tuple[object, ...], int] = {}
    for index, row in enumerate(rows):
        found = list(_faults(row))
        faults += [f"row {index}: {fault}" for fault in found]
        if found:
            continue
        plain = _plain(row)
        fitting.append(plain)
        first = seen.setdefault(tuple(plain[name] for name in KEY), index)
        if first != index:
            faults.append(f"row {index}: same {', '.join(KEY)} as row {first}")
    if faults:
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise SpecError(f"rows must fit the schema, got {count}: {'; '.join(faults[:_SHOWN])}{more}; mend the rows")
    return fitting


def _faults(row: Mapping[str, object]) -> Iterator[str]:
    for name in row:
        if name not in COLUMNS:
            yield f"unknown column {_quote.repr(name)}"
    wrong: set[str] = set()
    for name, column in COLUMNS.items():
        if name not in row:
            wrong.add(name)
            yield f"column {name} missing ({column.meaning})"
        elif (required := _type_fault(row[name], column)) is not None:
            wrong.add(name)
            yield f"{name} must be {required}, got {_quote.repr(row[name])} ({type(row[name]).__name__})"
    # what a value may be is asked only where its type is right
    for name, fits, required in _RULES:
        if name not in wrong and not fits(row[name]):
            yield f"{name} {required}, got {_quote.repr(row[name])}"
    if wrong.isdisjoint({"status", "metric", "value", "message"}):
        yield from _contradictions(row)


def _type_fault(value: object, column: Column) -> str | None:
    """What the column requires, where the value is not that."""
    if value is None and column.optional:
        return None
    if column.kind is str:
        fits, required = isinstance(value, str) and _encodes(value), "a string that UTF-8 can hold"
    elif column.kind is int:
        # a bool is an int to Python, not to a reader
        fits = isinstance(value, Integral) and not isinstance(value, bool) and -(2**63) <= int(value) < 2**63
        required = "an integer of 64 bits"
    else:
        fits, required = isinstance(value, Real) and not isinstance(value, bool) and _converts(value), "a float"
    return None if fits else required + (" or None" if column.optional else "")


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _converts(number: Real) -> bool:
    try:
        float(number)
    except OverflowError:
        return False
    return True


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


_RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("suite", lambda name: _NAME.fullmatch(name) is not None, _NAME_NEEDS),
    ("cell", lambda name: _NAME.fullmatch(name) is not None, _NAME_NEEDS),
    ("seed", lambda seed: seed >= 0, "must not be negative"),
    ("method", bool, "must not be empty"),
    ("rank", lambda rank: rank is None or rank >= 0, "must not be negative"),
    ("metric", lambda metric: metric != "", "must not be empty"),
    ("status", lambda status: status in STATUSES, f"must be {' or '.join(STATUSES)}"),
    ("seconds", lambda seconds: 0 <= seconds < math.inf, "must be finite and not negative"),
    ("spec", _is_json_object, "must be a JSON object"),
)


def _contradictions(row: Mapping[str, object]) -> Iterator[str]:
    if row["status"] == "ok":
        for name in ("metric", "value"):
            if row[name] is None:
                yield f"a row with status ok must have a {name}, got None"
    elif row["status"] == "failed":
        if row["value"] is not None:
            yield f"a row with status failed must have no value, got {row['value']!r}"
        if not str(row["message"]).strip():
            yield f"a row with status failed must say why in its message, got {row['message']!r}"


def _plain(row: Mapping[str, object]) -> Row:
    # str.__str__: str() of an enum's member would be its name
    makers: dict[type, Callable[[Any], object]] = {str: str.__str__, int: int, float: float}
    values = {name: None if row[name] is None else makers[column.kind](row[name]) for name, column in COLUMNS.items()}
    return cast("Row", values)
