"""Checkpoints that a killed run left: the last whole one, what it says of the run, and where its best one lies."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Left", "last_checkpoint"]

_STATE = "trainer_state.json"  # which the trainer writes last


@dataclass(frozen=True)
class Left:
    """What a killed run left.

    Attributes:
        folder: of its last whole checkpoint.
        step: of that.
        stopped: whether it had stopped there by itself, for want of a better score.
    """

    folder: Path
    step: int
    stopped: bool


def last_checkpoint(folder: Path) -> Left | None:
    """The newest whole checkpoint; what was cut off while it was written is removed.

    The trainer names the best checkpoint by its path; where the folder was moved since, or is now named from another
    place, the path is set right.

    Args:
        folder: in which the trainer writes ``checkpoint-STEP``.

    Returns:
        None where there is none.
    """
    whole: list[tuple[int, Path, dict[str, Any]]] = []
    for path in folder.glob("checkpoint-*"):
        step, state = path.name.partition("-")[2], _state(path)
        if state is not None and step.isdigit():
            whole.append((int(step), path, state))
        else:
            shutil.rmtree(path, ignore_errors=True)
    if not whole:
        return None
    step, path, state = max(whole, key=lambda one: one[0])
    best = state.get("best_model_checkpoint")
    if best is not None and best != str(folder / Path(best).name):
        _write(path / _STATE, state | {"best_model_checkpoint": str(folder / Path(best).name)})
    control = state.get("stateful_callbacks", {}).get("TrainerControl", {}).get("args", {})
    return Left(path, step, bool(control.get("should_training_stop")))


def _state(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads((path / _STATE).read_text())
    except (OSError, ValueError):
        return None


def _write(path: Path, state: dict[str, Any]) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")  # every process of several comes here
    part.write_text(json.dumps(state, indent=2, sort_keys=True) + "\n")
    part.replace(path)
