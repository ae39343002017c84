"""``lorascope run``: a suite of the paper's experiments, computed cell by cell into a folder of records."""

import tomllib
from collections.abc import Generator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import SpecError
from .executor import connected, one_of
from .files import output_folder
from .tables import print_comparison, print_medians, print_predictions

if TYPE_CHECKING:
    from rich.console import Console

    from ..experiments import CellFunction, Ran, RunProgress, ScaleName, Suite, TaskSuite
    from ..records import Comparison

__all__ = ["run"]

# looked up as files, for importing the experiments loads torch, which neither --help nor a mistake should wait for
_FILES = {
    file.name.removesuffix(".toml"): file
    for file in (files("lorascope") / "experiments" / "suites").iterdir()
    if file.name.endswith(".toml")
}
_SUITES = sorted(_FILES)
_FAILURES = 10  # that are told


def _list(wanted: bool) -> None:
    if not wanted:
        return
    for name in _SUITES:
        content = tomllib.loads(_FILES[name].read_text(encoding="utf-8"))
        typer.echo(f"{name:18} {content['title']} ({', '.join(content['scales'])})")
    raise typer.Exit


def run(
    suite: Annotated[
        str, typer.Argument(metavar="SUITE", help=f"One of {', '.join(_SUITES)}; or a TOML file of your own.")
    ],
    scale: Annotated[
        Literal["smoke", "medium", "paper"],
        typer.Option(
            help="smoke: a minute or so; medium: an hour or so on a laptop core; paper: as in the paper, hours."
        ),
    ] = "smoke",
    only: Annotated[
        str | None,
        typer.Option(
            metavar="CELL", help="Compute this cell alone, even where it is recorded; then the two are compared."
        ),
    ] = None,
    results: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the records; made if missing, added to if not.")
    ] = Path("lorascope-results"),
    workers: Annotated[
        int, typer.Option(min=0, metavar="N", help="Processes that compute cells; 0: this one, one after the other.")
    ] = 0,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Dask scheduler whose workers compute cells; needs lorascope[cluster]."),
    ] = None,
    device: Annotated[str, typer.Option(metavar="D", help="Of gradient steps: cpu, cuda, cuda:1.")] = "cpu",
    model: Annotated[
        str | None, typer.Option(metavar="DIR", help="Of the suite glue: an encoder, by folder or hub name.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Of the suite glue: its rows, TASK/train.tsv and dev.tsv; default: the hub's."
        ),
    ] = None,
    _listed: Annotated[
        bool, typer.Option("--list", callback=_list, is_eager=True, help="Name the suites and what each is about.")
    ] = False,
) -> None:
    """Run a suite of the paper's experiments: each cell is recorded as it ends, so a run stopped at any moment resumes.

    A cell is a pair of networks and one way to adapt, at all ranks. lorascope.records.read(DIR) has the records as one
    table. Exit code 1: some cells failed; the next run computes them again.
    """
    _check_name(suite)
    _check_subject(suite, model, data, device)
    one_of(workers, cluster)
    with connected(cluster) as executor:
        folder = output_folder(results, "--results")
        import torch  # noqa: PLC0415
        from rich.console import Console  # noqa: PLC0415

        from .. import experiments  # noqa: PLC0415
        from ..records import read  # noqa: PLC0415

        torch.set_num_threads(1)  # matrices this small are done before a second thread wakes up
        loaded, cell = _with_cell(experiments.load_suite(suite), scale, model, data)
        comparisons: list[Comparison] = []
        with _bar(loaded.name) as progress:
            ran = experiments.run(
                *(loaded, scale, folder, only, workers, device, cell),
                progress=progress,
                executor=executor,
                compared=comparisons.append,
            )
    console = Console(highlight=False)
    for comparison in comparisons:
        print_comparison(console, comparison)
    print_medians(console, read(folder), loaded.name, ran.cells, loaded.title)
    print_predictions(console, read(folder), loaded.name, ran.cells)
    _close(console, ran, folder)
    if ran.failures:
        raise typer.Exit(1)


def _check_name(suite: str) -> None:
    if suite not in _SUITES and not suite.endswith(".toml"):
        raise SpecError(f"SUITE must be one of {', '.join(_SUITES)}, or a file that ends in .toml, got {suite!r}")
    if suite.endswith(".toml") and not Path(suite).is_file():
        raise SpecError(f"SUITE must be a suite's name or a TOML file, found no file {suite}; name another")


def _check_subject(suite: str, model: str | None, data: Path | None, device: str) -> None:
    """Refuse what is missing or too much before torch is loaded; a file that is wrong is told of later."""
    try:
        content = tomllib.loads((Path(suite) if suite.endswith(".toml") else _FILES[suite]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    of_tasks = content.get("measure") == "glue"
    if of_tasks and model is None:
        raise SpecError(f"the suite {suite} needs --model DIR, an encoder's folder or hub name, got none; name one")
    if of_tasks and device not in {"cpu", "cuda"}:
        raise SpecError(
            f"--device of the suite {suite} must be cpu or cuda, got {device}; choose GPUs by CUDA_VISIBLE_DEVICES"
        )
    given = [option for option, value in (("--model", model), ("--data", data)) if value is not None]
    if given and not of_tasks:
        raise SpecError(f"{' and '.join(given)} belong to the suite glue, got the suite {suite}; leave that out")


def _with_cell(
    suite: "Suite | TaskSuite", scale: "ScaleName", model: str | None, data: Path | None
) -> "tuple[Suite | TaskSuite, CellFunction]":
    """The suite, and the function that computes its cells: networks' own, or that of real checkpoints."""
    from .. import experiments  # noqa: PLC0415

    if not isinstance(suite, experiments.TaskSuite) or model is None:
        return suite, experiments.cell
    from ..hf.extra import need_hf  # noqa: PLC0415

    need_hf()
    from ..hf.glue import TaskCell, subject  # noqa: PLC0415

    tasks = suite.scales[scale].tasks if scale in suite.scales else []
    return suite.on(subject(model, data, tasks)), TaskCell(model, data)


@contextmanager
def _bar(name: str) -> Generator["RunProgress"]:
    """A progress bar on stderr while it is a terminal; nothing otherwise."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = TextColumn(name), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)

        def update(done: int, total: int, share: float, left: float | None, what: str) -> None:
            parts = f"{done} of {total} cells", what, "" if left is None or done == total else time_left(left)
            line = ", ".join(part for part in parts if part)
            bar.update(task, completed=share, description=line)

        yield update


def time_left(seconds: float) -> str:
    """In words.

    >>> time_left(32400), time_left(180), time_left(1)
    ('9 h left', '3 min left', '1 s left')
    """
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} left"
    return f"{seconds:.0f} s left"


def _close(console: "Console", ran: "Ran", folder: Path) -> None:
    for failure in ran.failures[:_FAILURES]:
        at = "" if failure.rank is None else f" at rank {failure.rank}"
        reason = " ".join(failure.message.split())
        console.print(f"Failed: cell {failure.cell}, {failure.method}{at}: {reason}", soft_wrap=True, markup=False)
    if len(ran.failures) > _FAILURES:
        console.print(f"... and {len(ran.failures) - _FAILURES} more; the records have them all")
    before = len(ran.cells) - ran.computed
    counted = f"{ran.computed} cell{'' if ran.computed == 1 else 's'} computed"
    counted += f", {before} recorded before" if before else ""
    console.print(f"{counted}. Records: {folder}", soft_wrap=True, markup=False)
