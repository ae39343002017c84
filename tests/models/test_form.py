"""Functions for the paper's transformers refuse all others, and say what is other about them."""

import pytest
import torch

from lorascope.adaptation import bound_on_samples, bound_transformer
from lorascope.errors import ShapeError
from lorascope.models import TransformerNetwork
from lorascope.theory import transformer_bound

OTHER = {
    "residual=True": {"residual": True},
    "norm_place='pre'": {"norm": "pre"},
    "attention_bias=True": {"attention_bias": True},
    "head_dim=2": {"head_dim": 2},
    "ffn_dim=8": {"ffn_dim": 8},
}
BOUNDS = {
    "bound_transformer": lambda *pair: bound_transformer(*pair, 1.0),
    "bound_on_samples": lambda *pair: bound_on_samples(*pair, torch.zeros(1, 2, 4, dtype=torch.float64)),
    "transformer_bound": lambda *pair: transformer_bound(*pair, 1, 1.0),
}


@pytest.mark.parametrize("what", BOUNDS)
@pytest.mark.parametrize("came", OTHER)
def test_bounds_for_the_papers_form_refuse_others(what, came):
    plain, other = TransformerNetwork(4, 2, 1), TransformerNetwork(4, 2, 1, **OTHER[came])
    BOUNDS[what](plain, plain)
    for pair, role in (((plain, other), "target"), ((other, plain), "model|frozen"), ((other, other), "model|frozen")):
        with pytest.raises(ShapeError, match=rf"^{what} needs.*got ({role}) with {came}; adaptation\.bound_variant"):
            BOUNDS[what](*pair)
