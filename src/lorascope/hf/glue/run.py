"""One run from beginning to end: rows and checkpoint in, a folder with the model, its scores and its records out."""

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import LorascopeError
from ...records import ok_rows, provenance, write_part
from ..quiet import quiet
from ..work import MARK, Work, open_work, publish
from .base import Base, open_base
from .checkpoints import last_checkpoint
from .data import Data, load_data
from .identity import checkpoint_digest, checkpoint_name, tokenizer_digest
from .model import named_base
from .settings import Settings, base_name, check_settings
from .tasks import Task, task_named
from .train import Trained, on_cpu, train

__all__ = ["SUITE", "Run", "run_task"]

Progress = Callable[[float, str], None]
SUITE = "glue-run"
"""Of the rows that a single run records."""
_BODY = "base"  # folder of a random body, beside its adapter


@dataclass(frozen=True)
class Run:
    """What a run came to.

    Attributes:
        metrics: of the development rows, the official ones.
        decides: the metric that chooses.
        rows: trained on, and judged by.
        trained: parameters, steps and seconds.
        base: what the saved model or adapter is compared with: the checkpoint, or the random body's folder.
        adapter: whether an adapter was saved, rather than a model.
        main: whether this process is the one of several that saved it.
    """

    metrics: dict[str, float]
    decides: str
    rows: tuple[int, int]
    trained: Trained
    base: str
    adapter: bool
    main: bool


def run_task(
    task: str,
    model: str,
    out: Path,
    data: Path | None,
    settings: Settings,
    *,
    device: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Train on a task of GLUE and save what came of it; interrupted, the same call goes on where it stopped.

    Args:
        task: its name.
        model: folder or hub name of an encoder.
        out: folder for the model or adapter, its tokenizer and the rows of its record: new, empty, or an earlier one.
        data: folder of TSV files; None for the hub's.
        settings: how.
        device: ``"cpu"``, or None for whatever accelerate finds, several GPUs under ``accelerate launch`` included.
        progress: called with the share done and a few words.

    Returns:
        The scores.

    Raises:
        CheckpointError: a model that cannot be used, or a tokenizer that does not fit it.
        SpecError: settings, rows or an output folder that cannot be used, or that another run is at work on.
        MissingExtraError: transformers or peft is not installed.
    """
    check_settings(settings)
    chosen = task_named(task)
    rows = load_data(chosen, data)
    base = open_base(model, settings.length)
    spec = _spec(chosen, rows, base, settings)
    from accelerate import PartialState  # noqa: PLC0415

    state = PartialState(cpu=on_cpu(device))
    with state.main_process_first():
        work = open_work(out, spec, inputs=[base.folder], alone=state.is_main_process)
    body = work.folder / _BODY
    with closing(work):
        try:
            found = train(
                *(base, chosen, rows, settings, work.folder / "steps"),
                device=device,
                save_body=body if state.is_main_process else None,
                progress=progress if state.is_main_process else None,
            )
        except LorascopeError:
            if state.is_main_process and last_checkpoint(work.folder / "steps") is None:  # nothing to go on from
                work.discard()
            raise
        if state.is_main_process:
            ready = _saved(found, base, work, out, settings.adapts)
            _recorded(ready, spec, found, settings)
            publish(work, ready, out)
    state.wait_for_everyone()
    compared = str(out / _BODY) if settings.init == "random" else model
    counts = len(rows.train), len(rows.dev)
    return Run(found.metrics, chosen.metric, counts, found, compared, settings.adapts, state.is_main_process)


def _spec(task: Task, rows: Data, base: Base, settings: Settings) -> dict[str, Any]:
    return {
        "task": task.name,
        "checkpoint": checkpoint_name(base.name),
        "checkpoint_digest": checkpoint_digest(base.folder),
        "tokenizer_digest": tokenizer_digest(base.tokenizer),
        "rows": rows.name,
        "rows_digest": rows.digest,
        **settings.asked(),
    }


def _saved(found: Trained, base: Base, work: Work, out: Path, adapter: bool) -> Path:
    ready, body = work.folder / "ready", work.folder / _BODY
    shutil.rmtree(ready, ignore_errors=True)
    with quiet():
        found.model.save_pretrained(ready)
        base.tokenizer.save_pretrained(ready)
    if body.is_dir():
        body.rename(ready / _BODY)
    if adapter:
        named_base(ready, str(out.resolve() / _BODY) if (ready / _BODY).is_dir() else base_name(base.name))
    return ready


def _recorded(ready: Path, spec: dict[str, Any], found: Trained, settings: Settings) -> None:
    """The run's rows, and the mark of a folder that lorascope may write again."""
    rank = settings.rank if settings.method == "lora" else None
    metrics = found.metrics | {
        "parameters": float(found.parameters),
        "head_parameters": float(found.head),
        "steps": float(found.steps),
        "best_step": float(found.best),
        "lr": settings.rate,
    }
    origin = provenance(str(found.model.device))
    write_part(
        ready, ok_rows(SUITE, spec, metrics, method=settings.method, rank=rank, seconds=found.seconds, origin=origin)
    )
    # no matrix has a residual on record, for nothing was extracted
    told = {"matrices": [], "whole": {}, "glue": spec | {"metrics": metrics}}
    (ready / MARK).write_text(json.dumps(told, indent=1))
