"""Optimisers with a leading members axis: many starts, many settings, one tensor program."""

from .adam import Gradient, adam, by_autograd, cosine

__all__ = ["Gradient", "adam", "by_autograd", "cosine"]
