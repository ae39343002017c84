"""What every method returns: domains, certificates, adaptations."""

from .adaptation import EXACT, Adaptation, Certificate
from .domain import Ball, Box, Domain, Region, region_of
from .fnn_certificate import FNNBounds, Stage, bound_fnn, stages_of
from .largest import largest_output
from .transformer_certificate import TransformerBounds, bound_transformer, hidden_shift
from .variant_certificate import bound_variant

__all__ = [
    "EXACT",
    "Adaptation",
    "Ball",
    "Box",
    "Certificate",
    "Domain",
    "FNNBounds",
    "Region",
    "Stage",
    "TransformerBounds",
    "bound_fnn",
    "bound_transformer",
    "bound_variant",
    "hidden_shift",
    "largest_output",
    "region_of",
    "stages_of",
]
