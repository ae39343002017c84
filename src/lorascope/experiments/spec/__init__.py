"""What a suite of experiments may say."""

from .keys import Measure, Method, ModelName, ScaleName
from .parse import parse_any, parse_suite
from .suite import Depths, Pretrain, Scale, Suite
from .tasks import TASK_MEASURE, Subject, TaskScale, TaskSuite

__all__ = [
    "TASK_MEASURE",
    "Depths",
    "Measure",
    "Method",
    "ModelName",
    "Pretrain",
    "Scale",
    "ScaleName",
    "Subject",
    "Suite",
    "TaskScale",
    "TaskSuite",
    "parse_any",
    "parse_suite",
]
