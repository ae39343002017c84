"""Optimisers with a leading members axis: many starts, many settings, one tensor program."""

from .adam import Gradient, adam, by_autograd, cosine
from .layered import LayeredGradient

__all__ = ["Gradient", "LayeredGradient", "adam", "by_autograd", "cosine"]
