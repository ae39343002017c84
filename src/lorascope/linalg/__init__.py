"""Tensors in, tensors out: low-rank approximation, matrix chains, tolerances."""

from .chain import norm_product, prefixes, product, suffixes
from .krylov import Leading, leading
from .lowrank import NumericalRank, numerical_rank, singular_value, svd, truncate, truncate_weighted
from .threads import threads_for
from .tolerance import tolerance

__all__ = [
    "Leading",
    "NumericalRank",
    "leading",
    "norm_product",
    "numerical_rank",
    "prefixes",
    "product",
    "singular_value",
    "suffixes",
    "svd",
    "threads_for",
    "tolerance",
    "truncate",
    "truncate_weighted",
]
