"""Cells -> records: what is done stays done, and a cell that fails is a record too."""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from ..errors import SpecError
from ..records import (
    Comparison,
    Provenance,
    Row,
    cell_name,
    compare,
    done,
    failed_row,
    ok_rows,
    provenance,
    read,
    shared,
    sweep,
    write_part,
)
from .cells import Measured
from .cells import cell as paper_cell
from .grid import effort, grid
from .pace import RunProgress, Tell
from .spec import ScaleName, Suite, TaskSuite
from .workers import Counted, local_pool

__all__ = ["CellFunction", "Failure", "Ran", "compute", "run"]

Spec = dict[str, object]
CellFunction = Callable[[Mapping[str, Any], str], Sequence[Measured]]


@dataclass(frozen=True)
class Failure:
    """A cell, or a method at one rank of it, that gave no result."""

    cell: str
    method: str
    rank: int | None
    message: str


@dataclass(frozen=True)
class Ran:
    """What a run did.

    Attributes:
        cells: names of all cells asked for, in the suite's order.
        computed: how many of them it computed; the others were done before.
        failures: those that gave no result.
    """

    cells: tuple[str, ...]
    computed: int
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class _Outcome:
    """What a worker hands back: plain values alone."""

    measured: list[Measured]
    error: str
    seconds: float
    device: str


def run(
    suite: Suite | TaskSuite,
    scale: ScaleName,
    results: str | os.PathLike[str],
    only: str | None = None,
    workers: int = 0,
    device: str = "cpu",
    cell: CellFunction = paper_cell,
    progress: RunProgress | None = None,
    executor: Executor | None = None,
    compared: Callable[[Comparison], None] | None = None,
) -> Ran:
    """Compute a suite's cells, each recorded as it ends; those recorded before are not computed again.

    A cell that another suite has recorded in the same folder is taken from there. A run killed at any moment goes on
    where it stopped when it is started again, and ends with the same table.

    Args:
        suite, scale: what to compute.
        results: folder of the records, made where it is missing.
        only: name of a cell: it alone is computed, even where it is recorded.
        workers: processes; 0 computes here, one cell after the other.
        device: for the cell function and for the records: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        cell: (spec, device) -> what it measured. For processes, a function that can be pickled.
        progress: called as cells end.
        executor: instead of ``workers``: any of ``concurrent.futures``' kind, for one, that of
            :func:`lorascope.experiments.cluster`; left open.
        compared: called with a recorded cell that ``only`` has computed again, before its new rows replace the old.

    Returns:
        What was done. A cell that raises, whose worker dies twice, or whose cluster is lost, is recorded with status
        failed and computed again by the next run.

    Raises:
        SpecError: an unknown scale, cell or device, a negative number of workers, a folder that cannot be used, or
            records in it that cannot be read.
    """
    specs = {cell_name(spec): spec for spec in grid(suite, scale)}
    wanted = _wanted(suite, scale, specs, only)
    _check(workers, device, executor)
    sweep(results)
    recorded = done(results, suite.name)  # even for one cell alone: nothing is added to records that cannot be read
    if only is None:
        for name, rows in shared(results, suite.name, set(specs) - recorded).items():
            write_part(results, rows)
            recorded.add(name)
    todo = {name: specs[name] for name in wanted if only is not None or name not in recorded}
    origin = provenance(device)
    failures: list[Failure] = []
    tell = Tell(progress, len(wanted), {name: effort(spec) for name, spec in todo.items()})
    with _started(executor, workers, len(todo)) as pool, closing(_outcomes(pool, cell, todo, device)) as outcomes:
        for name, outcome in outcomes:
            rows = _rows(suite.name, todo[name], outcome, replace(origin, device=outcome.device))
            if only is not None and compared is not None and (old := _recorded(results, suite.name, name)):
                compared(compare(old, rows))
            write_part(results, rows)
            failures += [
                Failure(name, row["method"], row["rank"], row["message"]) for row in rows if row["status"] == "failed"
            ]
            what = f"{todo[name]['method']}, seed {todo[name]['seed']}"
            tell.ended(name, None if outcome.error else outcome.seconds, _at_once(pool), what)
    return Ran(tuple(wanted), len(todo), tuple(failures))


def _recorded(results: str | os.PathLike[str], suite: str, name: str) -> list[dict[str, Any]]:
    """The cell's rows so far."""
    if not Path(results).exists():
        return []
    return read(results).filter(suite=suite, cell=name).to_dicts()


def compute(suite: str, spec: Spec, device: str = "cpu", cell: CellFunction = paper_cell) -> list[Row]:
    """The rows of one cell, computed here and now as :func:`run` does; nothing is written.

    Args:
        suite: its name.
        spec: of the cell, from :func:`lorascope.experiments.grid` or from a record.
        device, cell: as in :func:`run`.

    Returns:
        Its rows; a cell that raises has one, with status failed.
    """
    outcome = _attempt(cell, spec, device)
    return _rows(suite, spec, outcome, replace(provenance(device), device=outcome.device))


def _wanted(suite: Suite | TaskSuite, scale: ScaleName, specs: Mapping[str, Spec], only: str | None) -> list[str]:
    if only is None:
        return list(specs)
    if only not in specs:
        some = ", ".join([*list(specs)[:5], *(["..."] if len(specs) > 5 else [])])
        raise SpecError(
            f"--only must be a cell of the suite {suite.name} at the scale {scale}, which has {len(specs)} ({some}), "
            f"got {only!r}; the column 'cell' of the records has their names"
        )
    return [only]


def _check(workers: int, device: str, executor: Executor | None) -> None:
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise SpecError(f"workers must be an integer of at least 0, got {workers!r}")
    if executor is not None and workers:
        raise SpecError(f"give workers or an executor, got {workers} workers and {executor!r}")
    try:
        kind = torch.device(device)
    except (RuntimeError, TypeError):
        raise SpecError(f"device must be cpu, cuda or cuda:NUMBER, got {device!r}") from None
    if kind.type not in ("cpu", "cuda"):
        raise SpecError(f"device must be cpu, cuda or cuda:NUMBER, got {device!r}")
    # an executor's workers may be on other machines
    if executor is None and kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise SpecError(
            f"device must be one that this machine has, got {device!r}; torch sees {torch.cuda.device_count()} CUDA "
            f"devices; use cpu"
        )


def _described(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


@contextmanager
def _started(executor: Executor | None, workers: int, cells: int) -> Generator[Executor | None]:
    """The caller's executor, processes of our own, or None for neither."""
    if executor is not None or not workers or not cells:
        yield executor
        return
    with local_pool(min(workers, cells)) as pool:
        yield pool


def _at_once(pool: Executor | None) -> int | None:
    if pool is None:
        return 1
    return pool.at_once if isinstance(pool, Counted) else None


def _outcomes(
    pool: Executor | None, cell: CellFunction, todo: Mapping[str, Spec], device: str
) -> Generator[tuple[str, _Outcome]]:
    """Names and outcomes, as cells end."""
    if pool is None:
        for name, spec in todo.items():
            yield name, _attempt(cell, spec, device)
        return
    names: dict[Future[_Outcome], str] = {}
    try:
        for name, spec in todo.items():
            names[_submitted(pool, cell, spec, device)] = name
        for future in as_completed(names):
            lost = _lost(future)
            yield names[future], _Outcome([], lost, 0.0, device) if lost else future.result()
    finally:
        for future in names:  # of a run that is given up
            future.cancel()


def _submitted(pool: Executor, cell: CellFunction, spec: Spec, device: str) -> "Future[_Outcome]":
    try:
        return pool.submit(_attempt, cell, spec, device)
    except RuntimeError as error:  # a pool whose worker has died takes no more
        future: Future[_Outcome] = Future()
        future.set_exception(error)
        return future


def _attempt(cell: CellFunction, spec: Spec, device: str) -> _Outcome:
    """Run a cell wherever this is called; whatever it raises is its outcome."""
    started = perf_counter()
    try:
        measured, error, where = list(cell(spec, device)), "", _described(device)
    except Exception as raised:  # noqa: BLE001 (a failing cell must not end the others)
        measured, error, where = [], f"{type(raised).__name__}: {raised}", device
    return _Outcome(measured, error, perf_counter() - started, where)


def _lost(future: "Future[_Outcome]") -> str:
    """Why a cell has no outcome; nothing where it has one."""
    if future.cancelled():  # by the executor, for nobody here has
        return "the connection to its worker was lost before it ended; what ended before is recorded, so run again"
    error = future.exception()
    if error is None:
        return ""
    reason = f"{type(error).__name__}: {error}"
    return (
        f"its worker was lost or could not take it ({reason}): killed, out of memory, or without a module that the "
        f"cell needs; run again once that is mended"
    )


def _rows(suite: str, spec: Spec, outcome: _Outcome, origin: Provenance) -> list[Row]:
    """The rows of a cell; a result that does not fit the records is a failure too."""
    error = outcome.error
    if not error and not outcome.measured:
        error = "the cell measured nothing"
    if not error:
        try:
            return [row for one in outcome.measured for row in _rows_of(suite, spec, one, origin)]
        except SpecError as raised:
            error = str(raised)
    return [
        failed_row(suite, spec, error, method=str(spec["method"]), rank=None, seconds=outcome.seconds, origin=origin)
    ]


def _rows_of(suite: str, spec: Spec, one: Measured, origin: Provenance) -> list[Row]:
    method, rank, seconds = one["method"], one["rank"], one["seconds"]
    if not one["metrics"]:
        return [failed_row(suite, spec, one["message"], method=method, rank=rank, seconds=seconds, origin=origin)]
    return ok_rows(
        suite, spec, one["metrics"], method=method, rank=rank, seconds=seconds, origin=origin, message=one["message"]
    )
