"""What a suite of experiments may say."""

from .keys import Measure, Method, ModelName, ScaleName
from .parse import parse_suite
from .suite import Depths, Pretrain, Scale, Suite

__all__ = [
    "Depths",
    "Measure",
    "Method",
    "ModelName",
    "Pretrain",
    "Scale",
    "ScaleName",
    "Suite",
    "parse_suite",
]
