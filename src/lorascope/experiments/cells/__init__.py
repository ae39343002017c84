"""What a cell computes: a spec in, one plain mapping a method and rank out."""

from .dispatch import cell
from .measured import Measured

__all__ = ["Measured", "cell"]
