"""Part files that are whole or absent."""

import errno
import hashlib
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import polars as pl

from ..errors import SpecError
from .check import check_name, checked
from .schema import SCHEMA, SCHEMA_VERSION, Row

__all__ = ["SUFFIX", "TEMPORARY", "VERSION_KEY", "WRITTEN_KEY", "part_name", "sweep", "write_part"]

SUFFIX = ".parquet"
TEMPORARY = ".part.tmp"
VERSION_KEY = "lorascope.records.schema"
WRITTEN_KEY = "lorascope.records.written"  # nanoseconds since 1970; a file's own time is lost when it is copied


def part_name(suite: str, cells: Sequence[str]) -> str:
    """The part file's name, without its suffix: the suite and the cell, or a hash of the cells where there are more.

    Raises:
        SpecError: no cells, or a name that no file can have.

    >>> part_name("demo", ["73c1155e16b760d5"])
    'demo@73c1155e16b760d5'
    """
    # joined by a sign that no name has: two pairs never make one name
    distinct = sorted(set(cells))
    if not distinct:
        raise SpecError("a part must have at least one cell, got none; write it once a cell is done")
    if len(distinct) == 1:
        return f"{check_name('suite', suite)}@{check_name('cell', distinct[0])}"
    return f"{check_name('suite', suite)}@{hashlib.sha256(' '.join(distinct).encode()).hexdigest()[:16]}"


def write_part(
    directory: str | os.PathLike[str], rows: Sequence[Mapping[str, object]], name: str | None = None
) -> Path:
    """Write one part file: all rows of one cell, or of several computed together.

    A reader sees the old part, the new one, or none; a process killed at any moment leaves at most a temporary file,
    which readers ignore. Once this returns, the part outlives a power cut.
    Polars' threads do not survive a fork: a worker process that writes or reads must be spawned, or hand its rows back.

    Args:
        directory: made where it is missing.
        rows: as ``ok_rows`` and ``failed_row`` build them, all of a cell's rows together: a later part that has a cell
            replaces everything an earlier one said of it.
        name: the file's, without its suffix; a part of the same name is replaced. None: ``part_name`` of the rows, so
            that a cell run again replaces its own part.

    Returns:
        The file.

    Raises:
        SpecError: rows that do not fit the schema, no rows, rows of several suites and no name, or a folder that cannot
            be written to (full, read-only, a file).
    """
    fitting = checked(rows)
    if not fitting:
        raise SpecError("a part must have at least one row, got none; a cell without a result is a failed row")
    name = _name_of(fitting) if name is None else check_name("a part's name", name)
    folder = Path(directory)
    path = folder / f"{name}{SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(path, _serialised(fitting))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SpecError(
            f"results must go to a folder that can be written to and has room, got {folder} ({reason}); "
            f"make room there or name another folder; parts already written there are whole"
        ) from error
    return path


def sweep(directory: str | os.PathLike[str], older_than: float = 3600.0) -> int:
    """Remove the temporary files that killed writers left.

    Args:
        directory: of the parts; nothing happens where there is none.
        older_than: seconds since a file's last change; a younger one may still be in a writer's hands.

    Returns:
        How many were removed.
    """
    removed = 0
    for path in Path(directory).glob(f".*{TEMPORARY}"):
        try:
            if time.time() - path.stat().st_mtime >= older_than:
                path.unlink()
                removed += 1
        except OSError:  # renamed or removed by its writer meanwhile, or not ours to remove
            continue
    return removed


def _name_of(rows: Sequence[Row]) -> str:
    suites = sorted({row["suite"] for row in rows})
    if len(suites) > 1:
        raise SpecError(f"a part without a name must be of one suite, got {', '.join(suites)}; give it a name")
    return part_name(suites[0], [row["cell"] for row in rows])


def _serialised(rows: Sequence[Row]) -> bytes:
    buffer = BytesIO()
    written = {VERSION_KEY: str(SCHEMA_VERSION), WRITTEN_KEY: str(time.time_ns())}
    pl.DataFrame(rows, schema=SCHEMA).write_parquet(buffer, metadata=written)
    return buffer.getvalue()


def _replace(path: Path, content: bytes) -> None:
    # beside the part, for a rename is atomic within one file system only; a name no other writer has
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            # before the rename: else a power cut may leave the name on an empty file
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:  # an interrupt too must leave nothing behind
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Makes the new name itself last."""
    if os.name == "nt":  # which cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems cannot; the file's content is safe by now
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
