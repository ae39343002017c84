"""What is run: settings in, plain rows out."""

from .cells import Measured, cell
from .cluster import cluster
from .digits import DigitsResult, DigitsRow, DigitsSettings, Progress, run_digits, train_target
from .digits_data import Digits, load
from .grid import effort, grid
from .networks import draw_pair, pretrained
from .pace import RunProgress
from .run import CellFunction, Failure, Ran, compute, run
from .spec import (
    Depths,
    Measure,
    Method,
    ModelName,
    Pretrain,
    Scale,
    ScaleName,
    Subject,
    Suite,
    TaskScale,
    TaskSuite,
    parse_suite,
)
from .suites import load_suite, suite_names

__all__ = [
    "CellFunction",
    "Depths",
    "Digits",
    "DigitsResult",
    "DigitsRow",
    "DigitsSettings",
    "Failure",
    "Measure",
    "Measured",
    "Method",
    "ModelName",
    "Pretrain",
    "Progress",
    "Ran",
    "RunProgress",
    "Scale",
    "ScaleName",
    "Subject",
    "Suite",
    "TaskScale",
    "TaskSuite",
    "cell",
    "cluster",
    "compute",
    "draw_pair",
    "effort",
    "grid",
    "load",
    "load_suite",
    "parse_suite",
    "pretrained",
    "run",
    "run_digits",
    "suite_names",
    "train_target",
]
