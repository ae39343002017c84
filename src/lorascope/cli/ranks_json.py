"""A rank report as JSON."""

import math
from typing import TYPE_CHECKING, Any

from .._version import __version__

if TYPE_CHECKING:
    from ..hf import RankReport
    from ..hf.spectrum import Spectrum

__all__ = ["as_json"]

_VALUES = 64  # leading singular values that are told
_EPSILONS = (0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.01)


def as_json(report: "RankReport") -> dict[str, Any]:
    """Every number of a report; ranks that are not known are null."""
    return {
        "version": __version__,
        "tolerance": report.tolerance,
        "recommended": {"rank": report.recommendation.rank, "reason": report.recommendation.reason},
        "divergences": [{"rank": rank, "kl": kl} for rank, kl in report.recommendation.divergences],
        "costs": [
            {"rank": cost.rank, "energy": cost.energy, "parameters": cost.parameters}
            for cost in report.recommendation.costs
        ],
        "parameters": report.parameters,
        "bytes": {"base": report.bytes[0], "tuned": report.bytes[1]},
        "matrices": [
            {
                "name": row.name, "layer": row.layer, "module": row.module, "kind": row.kind, "shape": list(row.shape),
                "relative": row.relative, "new_rows": row.new_rows, **_spectrum(row.spectrum, report.tolerance),
            }
            for row in report.matrices
        ],
        "heads": [
            {
                "layer": row.layer, "module": row.module, "product": row.gap.product, "head": row.gap.head,
                "relative": row.gap.relative if math.isfinite(row.gap.relative) else None, "needed": row.gap.needed,
                **_spectrum(row.gap.spectrum, report.tolerance),
            }
            for row in report.heads
        ],
        "whole": report.whole,
        "left_out": [{"name": entry.name, "reason": entry.reason} for entry in report.left_out],
        "configurations": report.configurations,
    }  # fmt: skip


def _spectrum(spectrum: "Spectrum", tolerance: float) -> dict[str, Any]:
    return {
        "norm": spectrum.norm,
        "floor": spectrum.floor,
        "seconds": spectrum.seconds,
        "complete": spectrum.complete,
        "rank": spectrum.rank,
        "exact_rank": spectrum.exact_rank,
        "stable_rank": spectrum.stable_rank,
        "epsilon_ranks": {f"{eps:g}": spectrum.epsilon_rank(eps) for eps in sorted({*_EPSILONS, tolerance})},
        "singular_values": [float(value) for value in spectrum.values[:_VALUES]],
    }
