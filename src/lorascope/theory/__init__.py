"""Weights and spectra in, numbers out: rank thresholds, error bounds, partitions."""

from .bounds import sharp_bound, theorem5_bound, theorem5_bound_quoted
from .fnn import assumption1, corollary4_rank, lemma2_bound, theorem3_rank
from .last_layers import constant_direction, tuning_fails
from .linear import exact_rank, least_error, rank_obstruction
from .matching import Match, fnn_matches, padded_biases, transformer_matches
from .moment_bounds import activation_moments, moment_bound, population_bound
from .needed import Gap, Need, find_partition, matches_for, rank_needed
from .pair import Model, check_pair, coarser_dtype
from .parameters import last_layers_parameters, lora_parameters, transformer_parameters
from .partition import Partition, best_partition, least_total, search_partition, spread, uniform_partition
from .transformer import theorem7_gaps, theorem7_rank
from .transformer_bounds import transformer_bound

__all__ = [
    "Gap",
    "Match",
    "Model",
    "Need",
    "Partition",
    "activation_moments",
    "assumption1",
    "best_partition",
    "check_pair",
    "coarser_dtype",
    "constant_direction",
    "corollary4_rank",
    "exact_rank",
    "find_partition",
    "fnn_matches",
    "last_layers_parameters",
    "least_error",
    "least_total",
    "lemma2_bound",
    "lora_parameters",
    "matches_for",
    "moment_bound",
    "padded_biases",
    "population_bound",
    "rank_needed",
    "rank_obstruction",
    "search_partition",
    "sharp_bound",
    "spread",
    "theorem3_rank",
    "theorem5_bound",
    "theorem5_bound_quoted",
    "theorem7_gaps",
    "theorem7_rank",
    "transformer_bound",
    "transformer_matches",
    "transformer_parameters",
    "tuning_fails",
    "uniform_partition",
]
