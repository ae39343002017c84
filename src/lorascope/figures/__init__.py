"""Tables in, matplotlib figures out; nothing is computed here, and torch is not needed."""

from .below_threshold import below_threshold
from .rank_curve import rank_curve
from .rank_map import rank_map

__all__ = ["below_threshold", "rank_curve", "rank_map"]
