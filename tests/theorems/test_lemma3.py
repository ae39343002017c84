"""Lemma 3: random continuous weights satisfy Assumption 1 with probability 1; ties and zeros need not."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorascope.linalg import tolerance
from lorascope.theory.fnn import assumption1
from lorascope.theory.linear import difference_rank
from reference.cases import matrices, seeds, tensors
from reference.networks import chain, low_rank


@given(seeds, st.integers(1, 12), st.integers(1, 5), st.data())
def test_random_weights_satisfy_it_for_every_rank(seed, width, depth, data):
    groups, rank = data.draw(st.integers(1, depth)), data.draw(st.integers(1, width))
    weights = tensors(matrices(np.random.default_rng(seed), depth + groups, width, "generic"))
    assert assumption1(weights[:depth], weights[depth:], rank) > tolerance(width)
    assert difference_rank(weights[:depth], weights[depth : depth + 1]).rank == width


@given(seeds, st.integers(1, 6), st.integers(1, 3), st.integers(1, 6))
def test_it_is_the_smallest_of_all_the_conditions_written_out(seed, width, depth, rank):
    *frozen, target = matrices(np.random.default_rng(seed), depth + 1, width)
    error = target - chain(frozen)
    sums = [chain(frozen) + low_rank(error, r) for r in range(min(rank * (depth - 1), width) + 1)]
    values = [np.linalg.svd(matrix, compute_uv=False) for matrix in [*frozen, *sums]]
    expected = min(value[-1] / value[0] for value in values)
    assert assumption1(tensors(frozen), tensors([target]), rank) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("frozen", "target", "rank"),
    [
        ([[0.0, 0.0], [1.0, 1.0]], [2.0, 3.0], 1),  # a layer that is zero
        ([[1.0, 0.0], [1.0, 1.0]], [2.0, 3.0], 1),  # a singular layer
        ([[1.0, 1.0], [1.0, 1.0]], [0.0, 1.5], 1),  # non-singular layers, a singular partial sum
        ([[1.0, 1.0], [1.0, 1.0]], [0.0, 0.0], 2),  # the zero target
    ],
)
def test_it_fails_for_special_weights(frozen, target, rank):
    layers = [torch.diag(torch.tensor(values, dtype=torch.float64)) for values in frozen]
    assert assumption1(layers, [torch.diag(torch.tensor(target, dtype=torch.float64))], rank) == 0


def test_one_layer_groups_ask_nothing_of_the_target():
    eye = torch.eye(3, dtype=torch.float64)
    assert assumption1([eye, eye], [torch.zeros_like(eye), eye], 2) == 1
