"""Networks the theory speaks of, and adapters on their weights."""

from .adapter import Adapter, merge
from .fnn import FNN
from .form import check_paper_form
from .names import weight_names
from .transformer import Block, NormPlace, TransformerNetwork

__all__ = ["FNN", "Adapter", "Block", "NormPlace", "TransformerNetwork", "check_paper_form", "merge", "weight_names"]
