"""Weights and spectra in, numbers out: rank thresholds, error bounds, partitions."""

from .bounds import sharp_bound, theorem5_bound, theorem5_bound_quoted
from .fnn import assumption1, corollary4_rank, lemma2_bound, theorem3_rank
from .last_layers import constant_direction, tuning_fails
from .linear import exact_rank, least_error, rank_obstruction
from .matching import Match, fnn_matches, padded_biases, transformer_matches
from .moment_bounds import activation_moments, moment_bound, population_bound
from .narrow import Gauge, NarrowMatch
from .needed import Gap, Need, find_partition, matches_for, rank_needed
from .pair import Model, check_pair, coarser_dtype
from .parameters import last_layers_parameters, lora_parameters, transformer_parameters
from .partition import Partition, best_partition, least_total, search_partition, spread, uniform_partition
from .stacked import stacked_rank
from .streams import Seen, centred_basis
from .transformer import theorem7_gaps, theorem7_rank
from .transformer_bounds import transformer_bound
from .variants import BlockPlan, VariantPlan, block_bias, plan_variant, square_match

__all__ = [
    "BlockPlan",
    "Gap",
    "Gauge",
    "Match",
    "Model",
    "NarrowMatch",
    "Need",
    "Partition",
    "Seen",
    "VariantPlan",
    "activation_moments",
    "assumption1",
    "best_partition",
    "block_bias",
    "centred_basis",
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
    "plan_variant",
    "population_bound",
    "rank_needed",
    "rank_obstruction",
    "search_partition",
    "sharp_bound",
    "spread",
    "square_match",
    "stacked_rank",
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
