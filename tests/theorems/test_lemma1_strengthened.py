"""Lemma 1 without its condition on the partial sums: non-singular layers are enough, whatever the target."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lorascope as ls
from lorascope import construct
from lorascope.theory.fnn import assumption1
from lorascope.theory.linear import exact_rank, least_error, rank_obstruction
from reference.cases import matrices, network, seeds, tensors, worst_error
from reference.networks import chain, low_rank

eye = torch.eye(2, dtype=torch.float64)


def test_exact_where_a_partial_sum_is_singular():
    target = torch.diag(torch.tensor([0.0, 1.5], dtype=torch.float64))  # E = diag(-1, 0.5): I + LR_1(E) = diag(0, 1)
    assert assumption1([eye, eye], [target], 1) == 0
    assert least_error([eye, eye], target, 1) == 0
    first, second = torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    first[0, 0], second[1, 1] = -1, 0.5
    assert torch.equal((eye + second) @ (eye + first), target)


@given(seeds, st.integers(1, 12), st.integers(1, 4), st.data())
def test_singular_targets_need_no_more_than_the_rank_of_the_difference(seed, width, depth, data):
    """Spending all the rank on one layer attains the value for any target: the layers only have to be non-singular."""
    rank = data.draw(st.integers(0, width))
    rng = np.random.default_rng(seed)
    frozen, target = matrices(rng, depth, width), low_rank(matrices(rng, 1, width)[0], rank)
    layer = data.draw(st.integers(0, depth - 1))
    budget = data.draw(st.integers(0, width))
    after, before = chain([np.eye(width), *frozen[layer + 1 :]]), chain([np.eye(width), *frozen[:layer]])
    wanted = chain(frozen) + low_rank(target - chain(frozen), budget)
    adapted = [*frozen[:layer], np.linalg.inv(after) @ wanted @ np.linalg.inv(before), *frozen[layer + 1 :]]
    ranks = [budget if index == layer else 0 for index in range(depth)]
    claimed = least_error(tensors(frozen), *tensors([target]), ranks)
    assert np.linalg.norm(target - chain(adapted), 2) == pytest.approx(claimed, abs=1e-7)


def test_the_zero_target_needs_full_rank_together():
    frozen = tensors(matrices(np.random.default_rng(1), 3, 7))
    assert exact_rank(frozen, torch.zeros(7, 7, dtype=torch.float64)) == 3


def test_adapt_is_exact_where_a_partial_sum_is_singular():
    target = network([np.diag([0.0, 1.5])], activation="identity")
    adapted = construct.stable(network([np.eye(2)] * 2, activation="identity"), target, rank=1)
    assert adapted.certificate.exact
    assert worst_error(adapted.model, target, torch.eye(2, dtype=torch.float64)) <= 1e-12


@settings(max_examples=8)
@given(seeds, st.integers(1, 6), st.integers(1, 3), st.data())
def test_adapt_is_exact_with_any_ranks_that_add_up(seed, width, depth, data):
    rng = np.random.default_rng(seed)
    frozen, wanted = matrices(rng, depth, width), low_rank(matrices(rng, 1, width)[0], data.draw(st.integers(1, width)))
    missing, ranks = int(np.linalg.matrix_rank(wanted - chain(frozen))), []
    for _ in range(depth - 1):
        ranks.append(data.draw(st.integers(0, missing)))
        missing -= ranks[-1]
    names = {f"layers.{layer}.weight": rank for layer, rank in enumerate([*ranks, missing])}
    target = network([wanted], activation="identity")
    adapted = construct.stable(network(frozen, activation="identity"), target, ranks=names)
    assert adapted.certificate.exact
    assert worst_error(adapted.model, target, torch.eye(width, dtype=torch.float64)) <= 1e-8
    assert all(adapter.rank <= names[name] for name, adapter in adapted.adapters.items())


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_adapt_reaches_the_zero_target_by_any_one_layer(width, layer):
    frozen = network(matrices(np.random.default_rng(width), 4, width), activation="identity")
    target = network([np.zeros((width, width))], activation="identity")
    ranks = {f"layers.{index}.weight": width if index == layer else 0 for index in range(4)}
    adapted = construct.stable(frozen, target, ranks=ranks)
    assert worst_error(adapted.model, target, torch.eye(width, dtype=torch.float64)) <= 1e-12


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_two_zero_layers_reach_the_rank_of_one_adapter_only(rank):
    values = np.array([3.0, 2.0, 1.0])
    target = network([np.diag(values)], activation="identity")
    frozen = network([np.zeros((3, 3))] * 2, activation="identity")
    adapted = construct.stable(frozen, target, rank=rank, seconds=1)
    error = worst_error(adapted.model, target, torch.eye(3, dtype=torch.float64))
    assert ls.rank_needed(frozen, target).uniform == 3
    assert adapted.certificate.exact == (rank == 3)
    assert rank_obstruction(tensors([np.zeros((3, 3))] * 2), *tensors([np.diag(values)]), rank) <= error + 1e-9
    assert error <= [*values, 1e-9][rank] * 1.1  # and comes close to it, which sigma_{2R+1} would undercut
