"""Tables in, matplotlib figures out; nothing is computed here, and torch is not needed."""

from .below_threshold import below_threshold
from .catalogue import FIGURES, Drawn
from .panels import Picture, rendered
from .rank_curve import rank_curve
from .rank_map import rank_map

__all__ = ["FIGURES", "Drawn", "Picture", "below_threshold", "rank_curve", "rank_map", "rendered"]
