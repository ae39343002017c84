"""Optimisers with a leading members axis: many starts, many settings, one tensor program."""

from .adam import Gradient, adam, by_autograd, cosine
from .layered import LayeredGradient
from .levenberg_marquardt import LeastSquares, Minimum, levenberg_marquardt

__all__ = [
    "Gradient",
    "LayeredGradient",
    "LeastSquares",
    "Minimum",
    "adam",
    "by_autograd",
    "cosine",
    "levenberg_marquardt",
]
