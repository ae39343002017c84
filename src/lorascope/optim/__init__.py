"""Optimisers with a leading members axis: many starts, many settings, one tensor program."""

from .adam import Adam, Gradient, adam, by_autograd, cosine
from .layered import LayeredGradient, fitting

__all__ = ["Adam", "Gradient", "LayeredGradient", "adam", "by_autograd", "cosine", "fitting"]
