"""A folder of pages that is whole or absent."""

import json
import secrets
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from ..errors import SpecError
from ..records import read
from .pages import Progress, pages
from .runs import collect

__all__ = ["MARKER", "write_report"]

MARKER = "report.json"  # lists the files of a report: a folder that holds any other is somebody else's
STATIC = ("report.css", "report.js", "filters.js", "plots.js", "table.js", "start.js")
PLOTLY = "plotly.min.js"


def write_report(results: Path, out: Path, progress: Progress | None = None) -> Path:
    """Write the records of a folder as pages that open from disk and ask no network.

    Whoever looks at ``out`` sees the old report or the new one; a run that is killed leaves at most a hidden folder
    beside it.

    Args:
        results: folder of the records.
        out: folder to be made, or an older report's, which is replaced.
        progress: called with the share done and what is being done.

    Returns:
        The page to start from.

    Raises:
        SpecError: no folder of records, none in it, records of another schema version, or an ``out`` that is a file,
            holds anything but a report, is the working folder, or cannot be written to.

    Cost O(rows log rows).
    """
    folder = _free(out)
    progress = progress or _silent
    progress(0.0, "reading records")
    table = read(results)
    if table.is_empty():
        raise SpecError(f"a report needs records, found none in {results}; run a suite or name another folder")
    runs = collect(table)
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.part")
    try:
        part.mkdir(parents=True)
        _fill(part, pages(runs, str(results), progress))
        _swap(part, folder)
    except OSError as error:
        raise SpecError(
            f"--out must be a folder that can be written to and has room, got {out} "
            f"({error.strerror or type(error).__name__}); name another path"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out / "index.html"


def _silent(_share: float, _what: str) -> None:
    pass


def _free(out: Path) -> Path:
    """Where the report is to lie, once it is clear that nothing of anybody else's is lost."""
    folder = out.resolve()
    if folder.exists() and not folder.is_dir():
        raise SpecError(f"--out must be a folder, got the file {out}; name another path")
    if folder == Path.cwd() or folder in Path.cwd().parents:
        raise SpecError(f"--out must not be the folder you are in or one above it, got {out}; name another path")
    if folder.exists():
        other = sorted(path.name for path in folder.iterdir() if path.name not in _listed(folder))
        if other:
            more = f" and {len(other) - 1} more" if len(other) > 1 else ""
            raise SpecError(
                f"--out must be a new folder, an empty one, or a report's, got {out}, which holds {other[0]}{more}; "
                f"name another path"
            )
    return folder


def _listed(folder: Path) -> set[str]:
    try:
        content = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    listed = content.get("lorascope report") if isinstance(content, dict) else None
    return {MARKER, *map(str, listed)} if isinstance(listed, list) else set()


def _fill(folder: Path, made: Iterator[tuple[str, str]]) -> None:
    static = files("lorascope.report") / "static"
    for name in STATIC:
        (folder / name).write_bytes((static / name).read_bytes())
    # a file of the package plotly, which itself need not be loaded
    (folder / PLOTLY).write_bytes((files("plotly") / "package_data" / PLOTLY).read_bytes())
    for name, text in made:
        (folder / name).write_text(text, encoding="utf-8")
    listed = sorted(path.name for path in folder.iterdir())
    (folder / MARKER).write_text(json.dumps({"lorascope report": listed}, indent=1) + "\n", encoding="utf-8")


def _swap(part: Path, folder: Path) -> None:
    """The new folder takes the old one's name; the old one is removed once it has."""
    if not folder.exists():
        part.replace(folder)
        return
    old = part.with_suffix(".old")
    folder.replace(old)
    try:
        part.replace(folder)
    except OSError:
        old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
