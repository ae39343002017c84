"""Folders checked before any work, files that are whole or absent."""

import os
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
        path: what the user gave.
        option: its name, for the message.

    Raises:
        SpecError: it is a folder, or its folder cannot be written to.
    """
    if path.is_dir():
        raise SpecError(f"{option} must be a file, got the folder {path}; name a file in it")
    output_folder(path.parent, f"the folder of {option}")
    return path


def write(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``; whoever looks sees the old file or the whole new one.

    Raises:
        SpecError: the file cannot be written.
    """
    part = _beside(path)
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SpecError(f"cannot write {path} ({error.strerror}); make room there or name another folder") from None


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")
