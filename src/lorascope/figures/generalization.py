"""Figure "generalization": LoRA on few training inputs, its loss there and on fresh ones."""

import polars as pl

from ..records import Measurement
from .extent import extent
from .panels import Picture, draw, panels_of
from .places import by_rank, pair
from .points import gather

__all__ = ["generalization"]


def generalization(table: pl.DataFrame) -> Picture:
    """One panel a depth and kind of frozen network, one line for training and one for test inputs.

    Args:
        table: from ``records.read``.

    Raises:
        SpecError: no records of the suite ``generalization``.
    """
    source = extent(table, "generalization")
    points = [*gather(source, "train_mse", by_rank(pair, _training)), *gather(source, "test_mse", by_rank(pair, _test))]
    inputs = sorted({int(one.spec["train_inputs"]) for one in source.found if "train_inputs" in one.spec})
    note = f"Training inputs: {', '.join(f'{count:,}' for count in inputs)}, by depth." if inputs else ""
    return draw(
        source, "generalization", "LoRA on few training inputs", panels_of(points, y="MSE", log=True), note=note
    )


def _training(_one: Measurement) -> str:
    return "training loss"


def _test(_one: Measurement) -> str:
    return "test loss"
