"""Scores in float32, whatever the precision of training."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from transformers import Trainer

__all__ = ["ScoringTrainer", "full_precision"]


@contextmanager
def full_precision(model: Any) -> Generator[None]:  # noqa: ANN401
    """Without the autocast that accelerate puts around a model's forward, while the block runs.

    Args:
        model: as it was given to the trainer.
    """
    casting, plain = model.__dict__.get("forward"), model.__dict__.get("_original_forward")
    if casting is None or plain is None:  # it trains in float32
        yield
        return
    model.forward = plain
    try:
        yield
    finally:
        model.forward = casting


class ScoringTrainer(Trainer):
    """The scores that choose a step are those of the weights as they are saved."""

    def evaluate(self, *given: Any, **named: Any) -> dict[str, float]:  # noqa: ANN401
        with full_precision(self.model):
            return super().evaluate(*given, **named)
