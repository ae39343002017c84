"""Tables in, matplotlib figures out; nothing is computed here, and torch is not needed."""

from .rank_curve import rank_curve

__all__ = ["rank_curve"]
