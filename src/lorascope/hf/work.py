"""Work that outlives its process: each matrix's factors as one small file, until all are there."""

import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ..errors import SpecError
from .factors import Factors

__all__ = ["MARK", "Where", "Work", "open_work", "publish"]

MARK = "lorascope.json"
"""In every adapter's folder that was written here: what it holds, for ``verify``."""

_STATE = "state.json"
_NUMBERS = ("norm", "residual", "floor", "total")


@dataclass(frozen=True)
class Work:
    """A folder beside the output, which no loader looks into."""

    folder: Path

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
        """Whole or absent."""
        told = {key: float(getattr(factors, key)).hex() for key in _NUMBERS} | {"weighted": str(factors.weighted)}
        tensors = {"A": factors.A.contiguous(), "B": factors.B.contiguous(), "values": factors.values.contiguous()}
        if factors.shift is not None:
            tensors["shift"] = factors.shift.contiguous()
        part = self.path(index, stage).with_suffix(".part")
        save_file(tensors, part, metadata=told)
        part.replace(self.path(index, stage))


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


def open_work(out: Path, asked: Mapping[str, Any]) -> Work:
    """The folder of the work on an output; what an earlier run with the same question did there is kept.

    Args:
        out: where the adapter will be.
        asked: everything that decides the result.

    Raises:
        SpecError: the output is something else, or nothing can be written beside it.
    """
    if out.exists() and not _may_replace(out):
        raise SpecError(
            f"--out must be a new or empty folder, or an adapter written by lorascope, got {out}; name another folder"
        )
    folder = out.parent / f".{out.name}.lorascope-work"
    state = json.dumps(asked, sort_keys=True)
    try:
        if folder.exists() and _read(folder / _STATE) != state:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _STATE).write_text(state)
    except OSError as error:
        raise SpecError(f"cannot write to {folder} ({error.strerror}); make room there or name another --out") from None
    return Work(folder)


def publish(work: Work, ready: Path, out: Path) -> None:
    """Put a finished folder where the output belongs, in one step, and clear the work away."""
    for file in ready.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
    if out.exists():
        old = work.folder / "replaced"
        out.rename(old)
    ready.rename(out)
    shutil.rmtree(work.folder)


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
