"""What every method returns: domains, certificates, adaptations."""

from .adaptation import EXACT, Adaptation, Certificate
from .domain import Ball, Box, Domain, Region, contains, region_of
from .fnn_certificate import FNNBounds, Stage, bound_fnn, stages_of
from .inputs import Sampler, check_ranks, check_samples, check_seconds, draw_samples
from .largest import largest_output
from .networks import bound_networks
from .transformer_certificate import TransformerBounds, bound_transformer, hidden_shift
from .transformer_samples import bound_on_samples
from .variant_certificate import bound_variant
from .variant_samples import variant_on_samples

__all__ = [
    "EXACT",
    "Adaptation",
    "Ball",
    "Box",
    "Certificate",
    "Domain",
    "FNNBounds",
    "Region",
    "Sampler",
    "Stage",
    "TransformerBounds",
    "bound_fnn",
    "bound_networks",
    "bound_on_samples",
    "bound_transformer",
    "bound_variant",
    "check_ranks",
    "check_samples",
    "check_seconds",
    "contains",
    "draw_samples",
    "hidden_shift",
    "largest_output",
    "region_of",
    "stages_of",
    "variant_on_samples",
]
