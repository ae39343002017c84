"""A file that a long run writes as it goes, and goes on from."""

import hashlib
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from time import monotonic
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from ..errors import SpecError

__all__ = ["Checkpoint", "Reached", "Stateful", "fingerprint"]

FORMAT = 1


@runtime_checkable
class Stateful(Protocol):
    """What changes from step to step, and can be put back."""

    def state(self) -> dict[str, Tensor]: ...

    def restore(self, state: Mapping[str, Tensor]) -> None: ...


@dataclass(frozen=True)
class Reached:
    """How far a run has come.

    Attributes:
        step: the next one.
        seen: held-out losses so far, (looks, members) each, block by block.
    """

    step: int = 0
    seen: list[Tensor] = field(default_factory=list[Tensor])


class Checkpoint:
    """The file of one run.

    Args:
        path: of the file, in a folder that exists.
        every: seconds between writes.
        run: what the run is, name -> digest; a file of another is refused.

    Raises:
        SpecError: no such folder, or a file that cannot be read or belongs to another run.
    """

    def __init__(self, path: Path, every: float, run: Mapping[str, str]) -> None:
        if not path.parent.is_dir():
            raise SpecError(f"checkpoint must be a file in a folder that exists, got {path}; make {path.parent} first")
        self._path, self._every, self._run = path, every, dict(run)
        self._found = _read(path)
        self._started = self._written = monotonic()
        if self._found is not None:
            self._check(self._found)

    @property
    def seconds(self) -> float:
        """What earlier runs have spent up to the point from which this one goes on."""
        return 0.0 if self._found is None else cast("float", self._found["seconds"])

    def load(self, parts: Sequence[Stateful]) -> Reached:
        """Put the parts back to where the file has them, if there is one."""
        if self._found is None:
            return Reached()
        for part, state in zip(parts, cast("list[dict[str, Tensor]]", self._found["parts"]), strict=True):
            part.restore(state)
        return Reached(cast("int", self._found["step"]), cast("list[Tensor]", self._found["seen"]))

    def save(self, reached: Reached, parts: Sequence[Stateful]) -> None:
        """Write, where the last time is long enough ago. A run killed meanwhile leaves the file of before."""
        now = monotonic()
        if now - self._written < self._every:
            return
        content = {
            "format": FORMAT,
            "run": self._run,
            "seconds": self.seconds + now - self._started,
            "step": reached.step,
            "seen": reached.seen,
            "parts": [part.state() for part in parts],
        }
        unfinished = self._path.with_name(f"{self._path.name}.part")
        with unfinished.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._path)
        self._written = monotonic()

    def remove(self) -> None:
        """The run is over, and its file of no more use."""
        self._path.unlink(missing_ok=True)

    def _check(self, found: Mapping[str, object]) -> None:
        theirs = cast("dict[str, str]", found["run"])
        names = dict.fromkeys([*self._run, *theirs])
        differ = [name for name in names if self._run.get(name) != theirs.get(name)]
        if differ:
            raise SpecError(
                f"the checkpoint {self._path} is of another run, of other {', '.join(differ)}; go on with those it was "
                "written with, or remove it, or give another path"
            )


def fingerprint(value: object) -> str:
    """A digest of plain values, tensors, models, dataclasses (what is compared in them), and collections of these."""
    digest = hashlib.sha256()
    for part in _bytes(value):
        digest.update(part)
    return digest.hexdigest()[:16]


def _bytes(value: object) -> Iterator[bytes]:
    if isinstance(value, Tensor):
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().numpy().tobytes()
    elif isinstance(value, nn.Module):
        for name, part in value.named_modules():
            plain = {key: one for key, one in vars(part).items() if isinstance(one, str | int | float)}
            yield from _bytes([name, type(part).__name__, plain])
        yield from _bytes(value.state_dict())
    elif is_dataclass(value):
        yield from _bytes([(one.name, getattr(value, one.name)) for one in fields(value) if one.compare])
    elif isinstance(value, Mapping):
        yield from _bytes(list(cast("Mapping[object, object]", value).items()))
    elif isinstance(value, list | tuple):
        items = cast("Sequence[object]", value)
        yield f"{len(items)}[".encode()
        for one in items:
            yield from _bytes(one)
    else:
        yield f"{value!r};".encode()


def _read(path: Path) -> dict[str, object] | None:
    if not path.exists():
        return None
    try:
        found: object = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(found, dict) and found.get("format") == FORMAT:
            return cast("dict[str, object]", found)
        reason = "it has other content"
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:100]
    raise SpecError(
        f"checkpoint must be a file that such a run has written, got {path} ({reason}); remove it, or give another path"
    )
