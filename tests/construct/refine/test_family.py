"""Which networks a refinement looks at."""

import numpy as np
import pytest
import torch

from contracts.cases import fnn
from lorascope.construct.refine.family import LARGEST, families
from reference.networks import chain


def names_of(frozen, target, rank, partition):
    ranks = rank if isinstance(rank, dict) else {f"layers.{layer}.weight": rank for layer in range(frozen.depth)}
    return families(frozen, target, ranks, partition)


def test_one_target_layer_has_two_families():
    frozen, target = fnn(4, 2, 1)
    whole, kept = names_of(frozen, target, 1, ((0, 1),))
    assert (whole.name, kept.name) == ("2", "1+1")
    assert (whole.groups, whole.runs, whole.ranks) == (((0, 1),), ((0,),), (2,))
    assert (kept.groups, kept.runs, kept.ranks) == (((0,), (1,)), ((0, 1),), (1, 1))
    weights = [layer.weight.detach().numpy() for layer in frozen.linears]
    np.testing.assert_allclose(whole.weights[0], chain(weights), atol=1e-14)
    assert all(np.array_equal(found, weight) for found, weight in zip(kept.weights, weights, strict=True))


def test_two_target_layers_have_four_and_each_run_has_its_own_groups():
    frozen, target = fnn(3, 4, 2)
    found = names_of(frozen, target, 1, ((0, 1, 2), (3,)))
    assert [family.name for family in found] == ["3 | 1", "1+1+1 | 1"]  # a single layer has nothing to choose
    found = names_of(frozen, target, 1, ((0, 1), (2, 3)))
    assert [family.name for family in found] == ["2 | 2", "2 | 1+1", "1+1 | 2", "1+1 | 1+1"]
    mixed = found[1]
    assert mixed.groups == ((0, 1), (2,), (3,))
    assert mixed.runs == ((0,), (1, 2))
    assert mixed.ranks == (2, 1, 1)


@pytest.mark.parametrize("layers", [3, 4, 6, 9, 40])
def test_many_target_layers_are_capped_and_keep_the_two_extremes(layers):
    frozen, target = fnn(2, 2 * layers, layers)
    partition = tuple((2 * index, 2 * index + 1) for index in range(layers))
    found = [family.name for family in names_of(frozen, target, 1, partition)]
    assert len(found) == len(set(found)) == min(2**layers, LARGEST, layers + 2 if layers > 3 else 2**layers)
    assert " | ".join(["2"] * layers) == found[0]
    assert " | ".join(["1+1"] * layers) in found


def test_a_narrow_target_has_linearised_groups_alone_and_the_leading_blocks():
    frozen, _ = fnn(5, 4, 2)
    _, target = fnn(3, 4, 2)
    (found,) = names_of(frozen, target, 2, ((0, 1), (2, 3)))
    assert [weight.shape for weight in found.weights] == [(3, 3), (3, 3)]
    weights = [layer.weight.detach().numpy() for layer in frozen.linears]
    np.testing.assert_allclose(found.weights[1], chain(weights[2:])[:3, :3], atol=1e-14)
    assert found.ranks == (3, 3)  # no more than the block has


def test_ranks_differ_by_layer_and_may_be_0():
    frozen, target = fnn(4, 2, 1)
    ranks = {"layers.0.weight": 3, "layers.1.weight": 0}
    assert [family.ranks for family in names_of(frozen, target, ranks, ((0, 1),))] == [(3,), (3, 0)]
    assert [family.ranks for family in names_of(frozen, target, 0, ((0, 1),))] == [(0,), (0, 0)]
    assert [family.ranks for family in names_of(frozen, target, 9, ((0, 1),))] == [(4,), (4, 4)]


def test_weights_are_float64_and_detached():
    frozen, target = (model.float() for model in fnn(3, 2, 1))
    for family in names_of(frozen, target, 1, ((0, 1),)):
        assert all(weight.dtype == torch.float64 and not weight.requires_grad for weight in family.weights)
