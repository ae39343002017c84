"""All figures of experiments: their names, their suites and what draws them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from .bias import bias
from .depth import depth
from .final_layers import final_layers
from .fnn import fnn
from .fnn_depths import fnn_depths
from .linear import linear
from .panels import Picture
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
}
