"""Real checkpoints: what rank a fine-tune needs, the adapter, and whether it does what it should (extra ``[hf]``)."""

from .extract import Extracted, extract
from .functional import Functional
from .pairs import LeftOut, Models, Pair, open_models
from .quiet import quiet
from .ranks import HeadRow, MatrixRow, RankReport, rank_report
from .recommend import Cost, Recommendation
from .verify import Verified, VerifiedRow, verify

__all__ = [
    "Cost",
    "Extracted",
    "Functional",
    "HeadRow",
    "LeftOut",
    "MatrixRow",
    "Models",
    "Pair",
    "RankReport",
    "Recommendation",
    "Verified",
    "VerifiedRow",
    "extract",
    "open_models",
    "quiet",
    "rank_report",
    "verify",
]
