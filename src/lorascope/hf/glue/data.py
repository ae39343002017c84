"""A task's rows, from a folder of TSV files or from the hub."""

import hashlib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import SpecError
from .tasks import Task
from .tsv import Split, read_split

__all__ = ["HUB", "Data", "load_data"]

HUB = "nyu-mll/glue"


@dataclass(frozen=True, eq=False)
class Data:
    """A task's rows.

    Attributes:
        name: where they are from, without any path: ``tsv`` or the hub's name.
        digest: of texts and labels; two folders that hold the same rows have the same.
        train: to train on.
        dev: to choose by and to be judged by.
        others: further held-out splits by what to add to a metric's name, e.g. ``_mismatched``.
    """

    name: str
    digest: str
    train: Split
    dev: Split
    others: Mapping[str, Split]


def load_data(task: Task, folder: Path | None) -> Data:
    """Read a task's splits.

    Args:
        task: which.
        folder: with a folder named after the task, in which are ``train.tsv`` and ``dev.tsv`` (of mnli
            ``dev_mismatched.tsv`` too, where it is wanted, and ``dev_matched.tsv`` is another name of ``dev.tsv``);
            None for the hub's nyu-mll/glue.

    Raises:
        SpecError: files that are missing or wrong, with file and line; or no folder and no way to the hub.
    """
    if folder is None:
        return _data(HUB, _from_hub(task))
    home = folder / task.name
    matched = "validation_matched" in task.splits and not (home / "dev.tsv").is_file()
    dev = "dev_matched.tsv" if matched and (home / "dev_matched.tsv").is_file() else "dev.tsv"
    found = [home / name for name in ("train.tsv", dev)]
    missing = [path for path in found if not path.is_file()]
    if missing:
        raise SpecError(
            f"--data must hold {found[0]} and {found[1]}, found no {' and no '.join(map(str, missing))}; "
            f"name the folder in which {task.name} is, or leave --data out for the hub's {HUB}"
        )
    files = {"train.tsv": home / "train.tsv", "dev.tsv": home / dev}
    files |= {name: home / name for name in task.splits.values() if name not in files and (home / name).is_file()}
    return _data("tsv", {name: read_split(path, task) for name, path in files.items()})


def _data(name: str, splits: Mapping[str, Split]) -> Data:
    digest = hashlib.sha256()
    for key, split in splits.items():
        digest.update(repr((key, split.first, split.second, [float(label) for label in split.labels])).encode())
    others = {f"_{key.removesuffix('.tsv').partition('_')[2]}": split for key, split in splits.items() if "_" in key}
    return Data(name, digest.hexdigest()[:16], splits["train.tsv"], splits["dev.tsv"], others)


def _from_hub(task: Task) -> dict[str, Split]:
    from datasets import load_dataset  # noqa: PLC0415

    from ..functional import quiet  # noqa: PLC0415

    wanted = {"train": "train.tsv"} | dict(task.splits)
    try:
        with quiet(), _no_bars():
            return {file: _split(task, load_dataset(HUB, task.name, split=split)) for split, file in wanted.items()}
    except (OSError, ValueError) as error:  # no network, and no copy; datasets has no one error for it
        raise SpecError(
            f"without --data the rows of {task.name} come from the hub's {HUB}, which cannot be reached, and there is "
            f"no local copy ({type(error).__name__}: {_first_line(error)}); give --data a folder that "
            f"has {task.name}/train.tsv and {task.name}/dev.tsv"
        ) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "no reason given")[:120]


def _split(task: Task, rows: Any) -> Split:  # noqa: ANN401
    texts = [tuple(str(text) for text in rows[column]) for column in task.columns]
    label: Callable[[Any], float] = int if task.labels else float
    return Split(texts[0], texts[1] if task.pairs else (), tuple(label(one) for one in rows["label"]))


@contextmanager
def _no_bars() -> Generator[None]:
    """No progress bars of datasets while the block runs."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars  # noqa: PLC0415

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()
