"""Tensors in, tensors out: low-rank approximation, matrix chains, tolerances."""

from .chain import norm_product, prefixes, product, suffixes
from .lowrank import NumericalRank, numerical_rank, singular_value, svd, truncate, truncate_weighted
from .tolerance import tolerance

__all__ = [
    "NumericalRank",
    "norm_product",
    "numerical_rank",
    "prefixes",
    "product",
    "singular_value",
    "suffixes",
    "svd",
    "tolerance",
    "truncate",
    "truncate_weighted",
]
