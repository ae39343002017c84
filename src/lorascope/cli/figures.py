"""``lorascope figures``: every figure that there are records for, drawn from them alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import SpecError
from .files import output_folder, write

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from ..figures import Drawn, Picture

__all__ = ["figures"]


def figures(
    results: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the records; folders in it are looked into as well.")
    ] = Path("lorascope-results"),
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the pictures; made if missing.")] = Path(
        "lorascope-figures"
    ),
    only: Annotated[str | None, typer.Option(metavar="NAME", help="Draw this figure alone.")] = None,
) -> None:
    """Draw the figures of the paper's experiments from records: PNG and SVG, and the points as CSV.

    Each is drawn from the largest scale that its suite was run at; what was not run is listed, with the command that
    does. Nothing is computed, and torch is not needed. Exit code 1: the records of a suite hold no result to draw.
    """
    # matplotlib takes a while to load, which --help should not wait for
    from ..figures import FIGURES  # noqa: PLC0415

    wanted = _wanted(FIGURES, only)
    table = _table(results)
    present = set(table["suite"])
    missing = {name: FIGURES[name].suite for name in wanted if FIGURES[name].suite not in present}
    if len(missing) == len(wanted):
        suites = ", ".join(dict.fromkeys(missing.values()))
        raise SpecError(
            f"{results} must have records of a suite that is to be drawn ({suites}), got {', '.join(sorted(present))}; "
            f"run one: lorascope run {next(iter(missing.values()))} --results {results}"
        )
    folder = output_folder(out, "--out")
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False)
    pictures, lacking = _drawn(FIGURES, [name for name in wanted if name not in missing], table, folder)
    _report(console, pictures, lacking, missing, results)
    console.print(f"{len(pictures)} of {len(wanted)} figures. Pictures and their points: {folder}", soft_wrap=True,
                  markup=False)  # fmt: skip
    if lacking:
        raise typer.Exit(1)


def _wanted(figures: Mapping[str, "Drawn"], only: str | None) -> list[str]:
    if only is not None and only not in figures:
        raise SpecError(f"--only must be a figure, one of {', '.join(figures)}; got {only!r}")
    return list(figures) if only is None else [only]


def _table(results: Path) -> "pl.DataFrame":
    """The records of a folder and of the folders in it."""
    import polars as pl  # noqa: PLC0415

    from ..records import read  # noqa: PLC0415

    table = read(results)
    inner = sorted(path for path in results.iterdir() if path.is_dir() and not path.name.startswith("."))
    table = pl.concat([table, *(read(path) for path in inner)])
    if table.is_empty():
        raise SpecError(
            f"--results must be a folder of records, found none in {results}; make some: "
            f"lorascope run linear --results {results}"
        )
    return table


def _drawn(
    figures: Mapping[str, "Drawn"], names: Sequence[str], table: "pl.DataFrame", folder: Path
) -> tuple[list["Picture"], dict[str, str]]:
    """Every figure drawn and written before the next is begun; why some cannot be."""
    from ..progress import bar  # noqa: PLC0415

    pictures: list[Picture] = []
    lacking: dict[str, str] = {}
    with bar("Drawing") as tell:
        for done, name in enumerate(names):
            tell(done / len(names), name)
            try:
                picture = figures[name].draw(table)
            except SpecError as error:
                lacking[name] = str(error)
                continue
            _save(picture, folder)
            pictures.append(picture)
    return pictures, lacking


def _save(picture: "Picture", folder: Path) -> None:
    from ..figures import rendered  # noqa: PLC0415

    write(folder / f"{picture.name}.png", rendered(picture, "png"))
    write(folder / f"{picture.name}.svg", rendered(picture, "svg"))
    write(folder / f"{picture.name}.csv", picture.points.encode())


def _report(
    console: "Console",
    pictures: Sequence["Picture"],
    lacking: Mapping[str, str],
    missing: Mapping[str, str],
    results: Path,
) -> None:
    lines: list[tuple[str, str, str]] = []
    for picture in pictures:
        failed = picture.source.failed
        lost = f"; {failed} failed run{'' if failed == 1 else 's'}, told in the caption" if failed else ""
        lines.append(("drawn", picture.name, picture.source.title() + lost))
    lines += [("lacking", name, reason) for name, reason in lacking.items()]
    lines += [("missing", name, f"lorascope run {suite} --results {results}") for name, suite in missing.items()]
    wide = max(len(name) for _, name, _ in lines)
    for state, name, what in lines:
        console.print(f"{state:<7}  {name:<{wide}}  {what}", soft_wrap=True, markup=False)
