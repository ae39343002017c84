"""Folders checked before any work, files that are whole or absent."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from ..errors import SpecError

__all__ = ["output_file", "output_folder", "write"]


def output_folder(path: Path, option: str) -> Path:
    """The folder, made where it is missing, and tried out.

    Args:
        path: what the user gave.
        option: its name, for the message.

    Raises:
        SpecError: it is a file, cannot be made, or cannot be written to.
    """
    if path.exists() and not path.is_dir():
        raise SpecError(f"{option} must be a folder, got the file {path}; name another path")
    probe = _beside(path / "probe")
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SpecError(
            f"{option} must be a folder that can be written to, got {path} ({reason}); name another path"
        ) from None
    return path


def output_file(path: Path, option: str) -> Path:
    """The file's path, once its folder has been made and tried out.

    Args:
        path: what the user gave; a link stands for what it points to.
        option: its name, for the message.

    Raises:
        SpecError: it is a folder, or nothing that can be written to; the output already goes into it; or its folder
            cannot be written to.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        status = None
    except OSError as error:  # a name too long, links in a circle
        raise SpecError(f"{option} must be a file, got {path} ({error.strerror}); name another path") from None
    if status is not None:
        if _streams(status):
            return path
        if stat.S_ISDIR(status.st_mode):
            raise SpecError(f"{option} must be a file, got the folder {path}; name a file in it")
        if not stat.S_ISREG(status.st_mode):
            raise SpecError(f"{option} must be a file, a pipe or a character device, got {path}; name another path")
        if _is_output(status):
            raise SpecError(f"{option} must not be the file that the output goes to, got {path}; name another path")
    output_folder(path.resolve().parent, f"the folder of {option}")
    return path


def write(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``; whoever looks sees the old file or the whole new one.

    A link stays, what it points to is replaced; a pipe or a character device is written into.

    Raises:
        SpecError: the file cannot be written.
    """
    place = path.resolve()
    part = _beside(place)
    try:
        if path.exists() and _streams(path.stat()):
            path.write_bytes(content)
            return
        part.write_bytes(content)
        part.replace(place)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SpecError(f"cannot write {path} ({error.strerror}); make room there or name another folder") from None


def _streams(status: os.stat_result) -> bool:
    """A pipe or a character device, such as /dev/null: written into, never replaced."""
    return stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode)


def _is_output(status: os.stat_result) -> bool:
    """/dev/stdout where the shell sends that into a file: replaced, the file would lose what is printed."""
    for descriptor in (1, 2):
        with suppress(OSError):
            if os.path.samestat(status, os.fstat(descriptor)):
                return True
    return False


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")
