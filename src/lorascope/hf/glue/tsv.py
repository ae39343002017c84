"""A split of a task as a TSV file: tab-separated, UTF-8, LF, no quoting."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import SpecError
from .tasks import Task

__all__ = ["Split", "read_split"]

_SHOWN = 3  # faults that a message names
_HEADER = "idx, sentence1, sentence2, label"
_CLASS = re.compile(r"[0-9]+(\.0*)?")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?|\.[0-9]+")


@dataclass(frozen=True)
class Split:
    """Rows of a task.

    Attributes:
        first: their texts.
        second: the other text of each; empty for tasks of single sentences.
        labels: numbers of classes, or values.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    labels: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Sequence[int]) -> "Split":
        """Some of the rows, in that order."""
        second = tuple(self.second[row] for row in rows) if self.second else ()
        return Split(tuple(self.first[row] for row in rows), second, tuple(self.labels[row] for row in rows))


def read_split(path: Path, task: Task) -> Split:
    """The rows of one file.

    Columns are found by the header's names: ``sentence1``, ``label`` and, for pairs, ``sentence2``; others are left
    alone. Quotation marks are text, and empty lines at the end are nothing.

    Args:
        path: of the file.
        task: whose rows they are.

    Raises:
        SpecError: no such file, not UTF-8, missing or doubled columns, a quoted file, lines of another length, labels
            that the task does not have, no rows, or no texts; with the file, the line and what to do.
    """
    lines = _lines(path)
    header = lines[0].split("\t") if lines else []
    columns = ["sentence1", *(["sentence2"] if task.pairs else [])]
    wanted = [*columns, "label"]
    missing = [name for name in wanted if name not in header]
    if any(f'"{name}"' in header for name in missing):
        raise _quoted(path, 1, lines[0])
    twice = [name for name in wanted if header.count(name) > 1]
    if twice:
        raise SpecError(f"{path}, line 1: a column must be named once, got {', '.join(twice)} twice; rename one")
    if missing:
        raise SpecError(
            f"{path}, line 1: the header must name {', '.join(wanted)} (a file of GLUE rows has {_HEADER}, separated "
            f"by tabs), missing: {', '.join(missing)}, got {', '.join(header)[:80] or 'an empty file'}; add them"
        )
    rows = [line.split("\t") for line in lines[1:]]
    if not rows:
        raise SpecError(f"{path}: a split must have at least one row, got the header alone; fill it or name another")
    _check_quoting(path, rows, [header.index(name) for name in columns], header.index("label"))
    _check(path, [_width_fault(row, header) for row in rows], "a tab in a text, or a file that is cut off?")
    place = header.index("label")
    read = _label_reader(task)
    labels = [read(row[place]) for row in rows]
    faults = [f"label {row[place]!r}" if label is None else "" for row, label in zip(rows, labels, strict=True)]
    _check(path, faults, f"{_labels_of(task)}; rows without labels, such as a test split's, cannot be used")
    texts = [tuple(row[header.index(name)] for row in rows) for name in columns]
    for name, column in zip(columns, texts, strict=True):
        if not any(text.strip() for text in column):
            raise SpecError(f"{path}, line 2: {task.name} needs texts, got an empty {name} in every row; fill it")
    return Split(texts[0], texts[1] if task.pairs else (), tuple(label for label in labels if label is not None))


def _lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SpecError(f"a split must be a TSV file, could not read {path} ({reason}); name another folder") from None
    try:
        # not splitlines: texts may hold the other characters that it takes for line ends
        lines = content.decode("utf-8").removeprefix("\ufeff").split("\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SpecError(
            f"{path}, line {line}: must be UTF-8, got the byte {content[error.start]:#x}; save it as UTF-8"
        ) from None
    lines = [line.removesuffix("\r") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _check_quoting(path: Path, rows: Sequence[Sequence[str]], texts: Sequence[int], label: int) -> None:
    """Refuse what a CSV writer has quoted: read as plain text, its marks would become part of the sentences.

    Texts may well begin or end with a mark. But a writer wraps every field that has one, and doubles those inside; or
    it wraps a whole column.
    """
    marked = [
        (number, row[place])
        for number, row in enumerate(rows, 2)
        for place in (*texts, label)
        if place < len(row) and '"' in row[place]
    ]
    doubled = next(((number, field) for number, field in marked if '""' in field[1:-1]), None)
    if doubled is not None and all(_wrapped(field) for _, field in marked):
        raise _quoted(path, *doubled)
    for place in texts:
        column = [row[place] for row in rows if place < len(row)]
        if column and all(_wrapped(text) for text in column):
            raise _quoted(path, 2, column[0])


def _wrapped(field: str) -> bool:
    return len(field) > 1 and field[0] == field[-1] == '"' and '"' not in field[1:-1].replace('""', "")


def _quoted(path: Path, line: int, field: str) -> SpecError:
    return SpecError(
        f"{path}, line {line}: fields must not be quoted, got {field[:60]}; write it again "
        f"without quoting (csv.QUOTE_NONE)"
    )


def _width_fault(row: Sequence[str], header: Sequence[str]) -> str:
    if len(row) == len(header):
        return ""
    return f"{len(row)} fields where the header has {len(header)}" if any(row) else "an empty line"


def _labels_of(task: Task) -> str:
    if task.labels:
        return f"labels of {task.name} are the integers 0 to {task.labels - 1}"
    return f"labels of {task.name} are numbers from {task.low:g} to {task.high:g}"


def _label_reader(task: Task) -> Callable[[str], float | None]:
    def read(text: str) -> float | None:
        # float itself takes underscores, blanks and the digits of other scripts
        if not (_CLASS if task.labels else _NUMBER).fullmatch(text):
            return None
        value = float(text)
        if task.labels:
            return int(value) if value < task.labels else None
        return value if task.low <= value <= task.high else None

    return read


def _check(path: Path, faults: Sequence[str], reason: str) -> None:
    """Raise for the faulty rows, if any: the first few by their lines, and how many there are."""
    found = [f"line {number}: {fault}" for number, fault in enumerate(faults, 2) if fault]
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise SpecError(f"{path}, {'; '.join(found[:_SHOWN])}{more} ({reason})")
