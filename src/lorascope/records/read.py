"""All parts of a folder as one table."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import polars as pl

from ..errors import SpecError
from .schema import SCHEMA, SCHEMA_VERSION
from .write import SUFFIX, VERSION_KEY, WRITTEN_KEY

__all__ = ["read"]


@dataclass(frozen=True)
class _Part:
    name: str
    version: str
    written: int
    content: bytes


def read(directory: str | os.PathLike[str]) -> pl.DataFrame:
    """The result table: one row a metric, sorted by suite and cell, a cell's rows in the order they were written in.

    Where several parts have a cell, the part written last has it alone. The table does not depend on the order in which
    cells were finished, nor on files' names and times.

    Args:
        directory: of part files; temporary files, hidden ones and folders in it are ignored.

    Returns:
        A frame with the columns of ``SCHEMA``, empty where there are no parts.

    Raises:
        SpecError: no such folder, a file that is no part, or parts of another schema version.

    Cost O(bytes).

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     read(folder).shape
    (0, 14)
    """
    parts = _parts(Path(directory))
    _check_versions(Path(directory), parts)
    # the name decides between two parts of one nanosecond
    parts.sort(key=lambda part: (part.written, part.name))
    frames = [_frame(Path(directory), part).with_columns(part=pl.lit(order)) for order, part in enumerate(parts)]
    if not frames:
        return SCHEMA.to_frame()
    last = pl.col("part") == pl.col("part").max().over("suite", "cell")
    return pl.concat(frames).filter(last).drop("part").sort("suite", "cell", maintain_order=True)


def _parts(folder: Path) -> list[_Part]:
    if not folder.is_dir():
        came = "a file" if folder.exists() else "nothing"
        raise SpecError(f"results are read from a folder, found {came} at {folder}; run a suite or name another")
    parts: list[_Part] = []
    for path in folder.glob(f"*{SUFFIX}"):
        if path.name.startswith(".") or not path.is_file():
            continue
        # read once: the file may be replaced between a look at its version and one at its rows
        content = path.read_bytes()
        try:
            metadata = pl.read_parquet_metadata(BytesIO(content))
        except pl.exceptions.PolarsError as error:
            raise _unreadable(path, error) from error
        parts.append(_Part(path.name, metadata.get(VERSION_KEY, "none"), int(metadata.get(WRITTEN_KEY, "0")), content))
    return parts


def _check_versions(folder: Path, parts: Sequence[_Part]) -> None:
    versions = Counter(part.version for part in parts)
    if versions.keys() <= {str(SCHEMA_VERSION)}:
        return
    came = ", ".join(
        f"version {version} in {count} file{'s' if count > 1 else ''} (e.g. {_first(parts, version)})"
        for version, count in sorted(versions.items())
    )
    raise SpecError(
        f"results must have schema version {SCHEMA_VERSION}, the one this lorascope writes; {folder} has {came}; "
        f"read the others with the lorascope that wrote them (their column version says which), "
        f"or move them away and run again"
    )


def _first(parts: Sequence[_Part], version: str) -> str:
    return min(part.name for part in parts if part.version == version)


def _frame(folder: Path, part: _Part) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(BytesIO(part.content))
    except pl.exceptions.PolarsError as error:
        raise _unreadable(folder / part.name, error) from error
    if frame.schema != SCHEMA:
        strange = [f"{name} {dtype}" for name, dtype in frame.schema.items() if SCHEMA.get(name) != dtype]
        missing = [f"no {name}" for name in SCHEMA if name not in frame.schema]
        raise SpecError(
            f"{folder / part.name} must have the columns of schema version {SCHEMA_VERSION}, "
            f"got {', '.join(strange + missing) or 'another order'}; remove it and run its cells again"
        )
    return frame


def _unreadable(path: Path, error: Exception) -> SpecError:
    return SpecError(
        f"{path} must be a Parquet part file, got something else ({error}); remove it and run its cells again"
    )
