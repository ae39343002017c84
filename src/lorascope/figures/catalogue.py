"""All figures of experiments: their names, their suites and what draws them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from .bias import bias
from .binary import binary
from .certificates import certificates
from .classification import classification
from .convergence import convergence
from .depth import depth
from .distribution_shift import distribution_shift
from .exactness import exactness
from .final_layers import final_layers
from .fnn import fnn
from .fnn_depths import fnn_depths
from .generalization import generalization
from .glue import glue
from .glue_prediction import glue_prediction
from .linear import linear
from .methods import methods
from .optimization_gap import optimization_gap
from .panels import Picture
from .proximity import proximity
from .rank_allocation import rank_allocation
from .tfn import tfn

__all__ = ["FIGURES", "Drawn"]


@dataclass(frozen=True)
class Drawn:
    """One figure.

    Attributes:
        suite: whose records it needs.
        draw: the table of records -> the picture.
    """

    suite: str
    draw: Callable[[pl.DataFrame], Picture]


FIGURES: Mapping[str, Drawn] = {
    "linear": Drawn("linear", linear),
    "fnn": Drawn("fnn", fnn),
    "fnn-depths": Drawn("fnn-depths", fnn_depths),
    "tfn": Drawn("tfn", tfn),
    "final-layers": Drawn("final-layers", final_layers),
    "bias": Drawn("bias", bias),
    "rank-allocation": Drawn("rank-allocation", rank_allocation),
    "depth": Drawn("depth", depth),
    "classification": Drawn("classification", classification),
    "binary": Drawn("binary", binary),
    "distribution-shift": Drawn("distribution-shift", distribution_shift),
    "generalization": Drawn("generalization", generalization),
    "convergence": Drawn("convergence", convergence),
    "proximity": Drawn("proximity", proximity),
    "optimization-gap": Drawn("optimization-gap", optimization_gap),
    "methods": Drawn("methods", methods),
    "exactness": Drawn("exactness", exactness),
    "certificates": Drawn("certificates", certificates),
    "glue": Drawn("glue", glue),
    "glue-prediction": Drawn("glue", glue_prediction),
}
