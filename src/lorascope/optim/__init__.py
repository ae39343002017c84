"""Optimisers with a leading members axis: many starts, many settings, one tensor program."""

from .adam import Adam, Gradient, adam, by_autograd, cosine
from .layered import LayeredGradient, fitting
from .levenberg_marquardt import LeastSquares, Minimum, levenberg_marquardt

__all__ = [
    "Adam",
    "Gradient",
    "LayeredGradient",
    "LeastSquares",
    "Minimum",
    "adam",
    "by_autograd",
    "cosine",
    "fitting",
    "levenberg_marquardt",
]
