"""Singular frozen weights are a result with its obstruction in words, whatever the ranks and the time."""

import pytest
import torch

import lorascope as ls
from lorascope import construct
from lorascope.models import FNN, TransformerNetwork


def pair(kind, *sizes, seed=4):
    generator = torch.Generator().manual_seed(seed)
    return [kind(*size, generator=generator) for size in sizes]


def zeroed(model, name):
    with torch.no_grad():
        dict(model.named_parameters())[name].zero_()
    return model


@pytest.mark.parametrize("method", [ls.adapt, construct.stable])
def test_a_zero_layer_without_an_adapter(method):
    frozen, target = pair(FNN, (4, 3), (4, 1))
    found = method(zeroed(frozen, "layers.0.weight"), target, ranks={"layers.1.weight": 2}, seconds=0)
    assert not found.certificate.exact
    assert any("singular frozen weights layers.0.weight" in one for one in found.certificate.conditions)
    assert "layers.0.weight" not in found.adapters


@pytest.mark.parametrize("name", ["query", "key", "value", "out", "ffn_out.weight"])
def test_a_zero_matrix_of_a_transformer_without_an_adapter(name):
    frozen, target = pair(TransformerNetwork, (3, 2, 1), (3, 2, 1))
    full = f"blocks.0.{name}"
    ranks = {key: 2 for key, value in frozen.named_parameters() if value.ndim > 1 and key != full}
    found = construct.stable(zeroed(frozen, full), target, ranks=ranks, seconds=0)
    assert full not in found.adapters
    assert found.certificate.conditions


def test_exactness_is_not_given_up_for_time():
    frozen, target = pair(FNN, (1, 3), (1, 1))
    zeroed(frozen, "layers.1.weight")
    need = ls.rank_needed(frozen, target).uniform
    for seconds in (0, 30):
        assert construct.stable(frozen, target, need, seconds=seconds).certificate.exact


def test_a_singular_matrix_that_products_are_seen_through_is_named_and_not_called_rounding():
    frozen, target = pair(TransformerNetwork, (2, 2, 1), (2, 2, 1))
    found = construct.stable(zeroed(frozen, "blocks.0.ffn_in.weight"), target, 2, seconds=0)
    assert not found.certificate.exact
    assert any("singular" in one for one in found.certificate.conditions)
    assert not any("rounding" in one for one in found.certificate.conditions)


def test_biases_the_frozen_model_lacks_are_not_called_rounding():
    generator = torch.Generator().manual_seed(0)
    frozen = FNN(3, 4, "identity", bias=False, generator=generator)
    target = FNN(3, 1, "identity", generator=generator)
    found = construct.stable(frozen, target, 3)
    assert any("the frozen model has none" in one for one in found.certificate.conditions)
    assert not any("rounding" in one for one in found.certificate.conditions)
