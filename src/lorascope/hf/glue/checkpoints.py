"""Checkpoints that a killed run left: the last whole one, and what the run was about."""

import json
import shutil
from pathlib import Path

__all__ = ["last_checkpoint"]

_STATE = "trainer_state.json"  # which the trainer writes last


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; what was cut off while it was written is removed.

    Args:
        folder: in which the trainer writes ``checkpoint-STEP``.

    Returns:
        None where there is none.
    """
    whole: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        if _is_whole(path):
            whole.append((int(path.name.partition("-")[2]), path))
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(whole)[1] if whole else None


def _is_whole(path: Path) -> bool:
    try:
        json.loads((path / _STATE).read_text())
    except (OSError, ValueError):
        return False
    return path.name.partition("-")[2].isdigit()
