"""The bound of a tuned model holds for every input of its domain, whatever the transformer's form."""

import math

import pytest
import torch

import lorascope as ls
from lorascope import tune
from lorascope.models import TransformerNetwork
from reference.attack import assert_bound_holds
from reference.variants import FORMS, pair, seeded


def sized(form):
    return {key: min(value, 4) if key == "head_dim" else value for key, value in FORMS[form].items()}


def shifted(networks, generator):
    """Biases of size 1, in place."""
    with torch.no_grad():
        for network in networks:
            for name, parameter in network.named_parameters():
                if name.endswith("bias"):
                    parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return networks


def assert_certified(found, target, domain, inputs=4):
    bound = found.certificate.error_bound
    assert math.isfinite(bound)
    assert not found.certificate.exact
    return assert_bound_holds(bound, found.model, target, domain, inputs, tokens=3, count=16, steps=8)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("depth", [1, 2])
def test_no_input_exceeds_the_bound_before_and_after_steps(form, depth):
    frozen, target = shifted(pair(1, 4, 2, depth, **sized(form)), seeded(2))
    domain = ls.Ball(3.0) if depth == 1 else ls.Box([-1.0, 0.0, 0.2, -2.0], [1.0, 0.1, 0.3, 2.0])
    for steps in (0, 3):
        found = tune.lora(frozen, target, 2, lr=1e-1, steps=steps, batch=4, domain=domain)
        assert_certified(found, target, domain)


def test_skips_count():
    generator = seeded(1)
    networks = [TransformerNetwork(4, 2, 1, residual=True, generator=generator) for _ in range(2)]
    frozen, target = shifted(networks, generator)
    found = tune.lora(frozen, target, 0, steps=0, domain=ls.Ball(4.0))
    assert assert_certified(found, target, ls.Ball(4.0)) > 20


@pytest.mark.parametrize("depth", [1, 2])
def test_targets_with_fewer_heads_units_and_coordinates(depth):
    """Hidden units that the target lacks are on, and reach the output."""
    for width, heads, form in ((3, 1, {}), (3, 2, {}), (4, 1, {"head_dim": 2, "ffn_dim": 3}), (4, 2, {"ffn_dim": 1})):
        frozen = TransformerNetwork(4, 2, depth, generator=seeded(1))
        target = TransformerNetwork(width, heads, depth, generator=seeded(2), **form)
        with torch.no_grad():
            for block in frozen.layers:
                block.ffn_in.bias[-1] = 20.0
        found = tune.lora(frozen, target, 1, steps=2, batch=4, domain=ls.Ball(2.0))
        assert assert_certified(found, target, ls.Ball(2.0), width) > 1
