"""Work that outlives its process: each matrix's factors as one small file, until all are there."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..errors import SpecError
from .factors import Factors
from .lock import Lock, take
from .saving import save_tensors

__all__ = ["MARK", "Where", "Work", "check_out", "open_work", "publish"]

MARK = "lorascope.json"
"""In every adapter's folder that was written here: what it holds, for ``verify``."""

_STATE = "state.json"
_NUMBERS = ("norm", "residual", "floor", "total")


@dataclass(frozen=True)
class Work:
    """A folder beside the output, which no loader looks into.

    Attributes:
        folder: the folder.
        made: folders above it that were made for it, the innermost first.
        lock: keeps other runs out of it; None where nobody else comes.
    """

    folder: Path
    made: tuple[Path, ...] = ()
    lock: Lock | None = None

    @property
    def begun(self) -> bool:
        """Whether something was saved that a later run could take up."""
        return any(self.folder.rglob("*.safetensors"))

    def discard(self) -> None:
        """Remove the folder, and those that were made for it as far as they are empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()
        with suppress(OSError):
            for folder in self.made:
                folder.rmdir()

    def close(self) -> None:
        """Let other runs in; what was saved stays."""
        if self.lock is not None:
            self.lock.release()

    def path(self, index: int, stage: str = "matrix") -> Path:
        return self.folder / f"{stage}-{index:05d}.safetensors"

    def load(self, index: int, stage: str = "matrix") -> Factors | None:
        """The factors that an earlier run left, or None."""
        if not self.path(index, stage).is_file():
            return None
        with safe_open(self.path(index, stage), framework="pt") as file:
            told = file.metadata()
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        norm, residual, floor, total = (float.fromhex(told[key]) for key in _NUMBERS)
        A, B, values = (tensors[key] for key in ("A", "B", "values"))
        return Factors(A, B, norm, residual, floor, values, total, told["weighted"] == "True", tensors.get("shift"))

    def save(self, index: int, factors: Factors, stage: str = "matrix") -> None:
        """Whole or absent.

        Raises:
            SpecError: no room is left.
        """
        told = {key: float(getattr(factors, key)).hex() for key in _NUMBERS} | {"weighted": str(factors.weighted)}
        tensors = {"A": factors.A.contiguous(), "B": factors.B.contiguous(), "values": factors.values.contiguous()}
        if factors.shift is not None:
            tensors["shift"] = factors.shift.contiguous()
        save_tensors(self.path(index, stage), tensors, told)


@dataclass(frozen=True)
class Where:
    """The place of the work.

    Attributes:
        work: the folder in which it is kept.
        device: where the products run.
        executor: whose processes take the matrices; None: this one does.
    """

    work: Work
    device: str = "cpu"
    executor: Executor | None = None


def check_out(out: Path, inputs: Sequence[Path] = ()) -> None:
    """Refuse an output that cannot be put in place in one step, or that would replace something else.

    Args:
        out: where the adapter will be.
        inputs: folders that are read.

    Raises:
        SpecError: what is wrong with it.
    """
    try:
        place, cwd = out.resolve(), Path.cwd().resolve()
        there = out.exists()
        if out.is_symlink() and not there:
            raise SpecError(f"--out must be a new or empty folder, got {out}, a link to nothing; name another folder")
        if there and cwd.is_relative_to(place):
            raise SpecError(f"--out must not hold the current folder, got {str(out)!r}; name another folder")
        for folder in inputs:
            if folder.resolve().is_relative_to(place):
                raise SpecError(f"--out must not be or hold what is read, {folder}, got {out}; name another folder")
        if there and not _may_replace(out):
            raise SpecError(
                f"--out must be a new or empty folder, or an adapter written by lorascope, got {out}; "
                f"name another folder"
            )
    except OSError as error:
        raise SpecError(f"--out must be a folder, got {out} ({error.strerror}); name another folder") from None


def open_work(out: Path, asked: Mapping[str, Any], *, inputs: Sequence[Path] = (), alone: bool = True) -> Work:
    """The folder of the work on an output; what an earlier run with the same question did there is kept.

    Until the work is closed, discarded or published, or the process ends, no other run gets it.

    Args:
        out: where the adapter will be.
        asked: everything that decides the result.
        inputs: folders that are read, which the output must neither be nor hold.
        alone: keep other runs out; False for the further processes of one run, whose first one does.

    Raises:
        SpecError: the output is something else, another run is at work on it, or nothing can be written beside it.
    """
    check_out(out, inputs)
    folder = out.parent / f".{out.name}.lorascope-work"
    try:
        made = tuple(parent for parent in folder.parents if not parent.exists())
        folder.parent.mkdir(parents=True, exist_ok=True)
        # beside the folder: it must outlive the folder's removal
        lock = take(out.parent / f".{out.name}.lorascope-lock") if alone else None
        work = Work(folder, made, lock)
        try:
            _prepare(work, json.dumps(asked, sort_keys=True))
        except BaseException:
            work.close()
            raise
    except BlockingIOError:
        raise SpecError(
            f"--out must be of one run at a time, but another is at work on {out}; wait until it has ended, or name "
            f"another --out"
        ) from None
    except OSError as error:
        raise SpecError(f"cannot write to {folder} ({error.strerror}); make room there or name another --out") from None
    return work


def _prepare(work: Work, state: str) -> None:
    """Make the folder, and clear away what answers another question."""
    folder = work.folder
    folder.mkdir(exist_ok=True)
    if work.lock is not None:
        # files that a killed run had not finished, safetensors' own among them
        for file in (*folder.glob("*.part"), *folder.glob(".tmp*")):
            file.unlink(missing_ok=True)
    found = _read(folder / _STATE)
    if found and found != state:
        # its state last: cut off here, the next run goes on clearing
        for file in folder.iterdir():
            if file.is_dir():
                shutil.rmtree(file)
            elif file.name != _STATE:
                file.unlink(missing_ok=True)
    if found != state:
        part = folder / f"{_STATE}.{os.getpid()}.part"
        part.write_text(state)
        part.replace(folder / _STATE)


def publish(work: Work, ready: Path, out: Path) -> None:
    """Put a finished folder where the output belongs, in one step, and clear the work away.

    Raises:
        SpecError: it cannot be put there; the work stays.
    """
    try:
        for file in ready.rglob("*"):
            if file.is_file():
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
        if out.exists():
            old = work.folder / "replaced"
            shutil.rmtree(old, ignore_errors=True)
            out.rename(old)
        ready.rename(out)
    except OSError as error:
        raise SpecError(f"cannot put {ready} at {out} ({error.strerror}); make way there, and run it again") from None
    shutil.rmtree(work.folder)
    work.close()


def _may_replace(out: Path) -> bool:
    return out.is_dir() and ((out / MARK).is_file() or not any(out.iterdir()))


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def dtype_of(name: str | None, default: torch.dtype) -> torch.dtype:
    """The dtype of a name on the command line.

    Raises:
        SpecError: none of those an adapter can have.
    """
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if name is not None and name not in known:
        raise SpecError(f"--dtype must be one of {', '.join(known)}, got {name}")
    return default if name is None else known[name]
