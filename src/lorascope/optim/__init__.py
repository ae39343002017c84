"""Optimisers with a leading members axis: many starts, many settings, one tensor program."""

from .adam import Adam, Gradient, adam, by_autograd, cosine
from .layered import LayeredGradient, fitting
from .levenberg_marquardt import LeastSquares, Minimum, levenberg_marquardt
from .members import Workspace
from .objectives import OBJECTIVES, ObjectiveName, OutputLoss, check_objective, output_loss

__all__ = [
    "OBJECTIVES",
    "Adam",
    "Gradient",
    "LayeredGradient",
    "LeastSquares",
    "Minimum",
    "ObjectiveName",
    "OutputLoss",
    "Workspace",
    "adam",
    "by_autograd",
    "check_objective",
    "cosine",
    "fitting",
    "levenberg_marquardt",
    "output_loss",
]
