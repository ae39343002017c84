"""Networks the theory speaks of, and adapters on their weights."""

from .adapter import Adapter, merge
from .fnn import FNN
from .names import weight_names
from .transformer import Block, NormPlace, TransformerNetwork

__all__ = ["FNN", "Adapter", "Block", "NormPlace", "TransformerNetwork", "merge", "weight_names"]
