"""Real checkpoints: what rank a fine-tune needs, the adapter, and whether it does what it should (extra ``[hf]``)."""

from .pairs import LeftOut, Models, Pair, open_models

__all__ = ["LeftOut", "Models", "Pair", "open_models"]
