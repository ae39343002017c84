"""How far a trainer is, told to whoever wants to know."""

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

__all__ = ["told"]


def told(progress: Callable[[float, str], None]) -> TrainerCallback:
    """A callback that tells the share of the steps made, and the last score."""
    return _Told(progress)


class _Told(TrainerCallback):
    def __init__(self, progress: Callable[[float, str], None]) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ANN401, ARG002
        best = "" if state.best_metric is None else f", best score {state.best_metric:.4f}"
        self._progress(state.global_step / max(state.max_steps, 1), f"step {state.global_step}{best}")
