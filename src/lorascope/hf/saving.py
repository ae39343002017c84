"""Files of the work: whole or absent, and a full disk in one line."""

import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import SpecError

__all__ = ["save_tensors", "saving", "whole"]

_DISK = re.compile(r"os error|IoError|No space left")


@contextmanager
def saving(folder: Path) -> Generator[None]:
    """Turn a folder that cannot be written to into one line.

    Args:
        folder: that is written to.

    Raises:
        SpecError: the block could not write.

    >>> with saving(Path("out")):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    lorascope.errors.SpecError: cannot write to out (No space left on device); make room there and run it again
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except SafetensorError as error:
        # its own faults are of tensors, not of the folder
        if not _DISK.search(str(error)):
            raise
        reason = " ".join(str(error).removeprefix("Error while serializing: ").split())
    else:
        return
    raise SpecError(f"cannot write to {folder} ({reason}); make room there and run it again")


@contextmanager
def whole(path: Path) -> Generator[Path]:
    """A place to write what is to stand at a path, where it goes once the block has ended well.

    Args:
        path: where it is to stand.

    Yields:
        A name beside it, this process's own.

    Raises:
        SpecError: its folder cannot be written to.
    """
    part = path.with_suffix(f".{os.getpid()}.part")
    with saving(path.parent):
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], told: Mapping[str, str]) -> None:
    """A safetensors file, whole or absent.

    Args:
        path: where.
        tensors: by name.
        told: what its header says beside them.

    Raises:
        SpecError: its folder cannot be written to.
    """
    with whole(path) as part:
        save_file(dict(tensors), part, metadata=dict(told))
