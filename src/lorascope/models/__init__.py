"""Networks the theory speaks of, and adapters on their weights."""

from .adapter import Adapter, merge
from .fnn import FNN
from .transformer import Block, TransformerNetwork

__all__ = ["FNN", "Adapter", "Block", "TransformerNetwork", "merge"]
