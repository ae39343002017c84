"""Real checkpoints: what rank a fine-tune needs, the adapter, and whether it does what it should (extra ``[hf]``)."""

from .pairs import LeftOut, Models, Pair, open_models
from .ranks import HeadRow, MatrixRow, RankReport, rank_report
from .recommend import Cost, Recommendation

__all__ = [
    "Cost",
    "HeadRow",
    "LeftOut",
    "MatrixRow",
    "Models",
    "Pair",
    "RankReport",
    "Recommendation",
    "open_models",
    "rank_report",
]
