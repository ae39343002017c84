"""Weighted truncations against the whole SVD of the weighted matrix; noise against drawn noise; ranks against all."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorascope.errors import SpecError
from lorascope.hf.allocate import allocate, allocate_for_error
from lorascope.hf.moments import Moments
from lorascope.hf.weights import GRADIENT_DAMPING, INPUT_DAMPING, weighted_truncation, weights_of

pytestmark = pytest.mark.hf


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def moments(out, inp, seed=0, rows=3.0, rank=None):
    rng = generator(seed)
    g = torch.randn(rank or 3 * out, out, generator=rng, dtype=torch.float64)
    x = torch.randn(rank or 3 * inp, inp, generator=rng, dtype=torch.float64) + 0.5
    return Moments(g.T @ g / len(g), x.T @ x / len(x), x.mean(0), rows)


def damped(moment, share):
    return moment + share * torch.linalg.eigvalsh(moment)[-1] * torch.eye(len(moment), dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 6), st.booleans())
def test_against_symmetric_roots_and_a_whole_svd(out, inp, rank, singular):
    given_, matrix = (
        moments(out, inp, rank=1 if singular else None),
        torch.randn(out, inp, generator=generator(5)).double(),
    )
    found = weighted_truncation(matrix, weights_of(given_), rank, generator())
    left, right = damped(given_.left * given_.rows, GRADIENT_DAMPING), damped(given_.right, INPUT_DAMPING)

    def cost(rest):
        return float(torch.trace(left @ rest @ right @ rest.T))

    roots = [(vectors * values.sqrt()) @ vectors.T for values, vectors in map(torch.linalg.eigh, (left, right))]
    values = torch.linalg.svdvals(roots[0] @ matrix @ roots[1])
    # the power method knows the largest eigenvalue to a digit, and the damping with it
    assert cost(matrix - found.B @ found.A) <= 1.01 * float(values[rank:].square().sum()) + 1e-8 * cost(matrix)
    assert found.A.shape[0] <= rank
    if found.A.shape[0]:
        norms = torch.linalg.vector_norm(found.A, dim=1), torch.linalg.vector_norm(found.B, dim=0)
        assert torch.allclose(*norms)
        assert torch.allclose(found.values, values[: len(found.values)], rtol=5e-3)


def test_the_plain_truncation_is_worse_under_the_weights():
    given_, matrix = moments(10, 12), torch.randn(10, 12, generator=generator(5)).double()
    weights = weights_of(given_)
    found = weighted_truncation(matrix, weights, 3, generator())
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    plain = (u[:, :3] * s[:3]) @ v[:3]
    assert weights.apply(matrix - found.B @ found.A).norm() < 0.9 * weights.apply(matrix - plain).norm()


def test_a_diagonal_is_the_matrix_that_has_it():
    full = moments(6, 7)
    diagonal = Moments(full.left.diagonal(), full.right.diagonal(), full.mean, full.rows)
    as_matrix = Moments(full.left.diagonal().diag(), full.right.diagonal().diag(), full.mean, full.rows)
    matrix = torch.randn(6, 7, generator=generator(5)).double()
    products = []
    for given_ in (diagonal, as_matrix):
        found = weighted_truncation(matrix, weights_of(given_), 2, generator())
        products.append(found.B @ found.A)
    assert torch.allclose(*products, rtol=1e-3, atol=1e-4)


def test_centred_weights_do_not_see_the_mean():
    given_ = moments(4, 5)
    mean = given_.mean[None]
    change = torch.ones(4, 1, dtype=torch.float64)
    centred, whole = (weights_of(given_, centred=flag) for flag in (True, False))
    covariance = given_.right - torch.outer(given_.mean, given_.mean)
    assert torch.allclose(centred.right @ centred.right.T, damped(covariance, INPUT_DAMPING), rtol=1e-3)
    assert centred.apply(change @ mean).norm() < whole.apply(change @ mean).norm()


def test_nothing_seen_weighs_all_alike():
    nothing = Moments(torch.zeros(4, 4).double(), torch.zeros(5).double(), None, 1.0)
    matrix = torch.randn(4, 5, generator=generator(5)).double()
    found = weighted_truncation(matrix, weights_of(nothing), 4, generator())
    assert torch.allclose(found.B @ found.A, matrix, atol=1e-10)


def test_noise_lies_below_what_is_said_of_it():
    given_ = moments(60, 80, rank=20)
    weights = weights_of(given_)
    plain = 60**0.5 + 80**0.5
    tops = [
        float(torch.linalg.matrix_norm(weights.apply(torch.randn(60, 80, generator=generator(s)).double()), 2))
        for s in range(20)
    ]
    bound = weights.noise(plain)
    assert max(tops) < 1.1 * bound  # a mean, which single draws pass by little
    assert max(tops) > 0.3 * bound
    flat = weights_of(Moments(torch.ones(60).double(), torch.ones(80).double(), None, 1.0))
    assert flat.noise(plain) == pytest.approx(plain, rel=2e-3)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 10), min_size=0, max_size=3), min_size=1, max_size=3),
    st.integers(0, 9),
)
def test_equal_costs_make_the_greedy_choice_the_best(lists, budget):
    values = [torch.tensor(sorted(each, reverse=True), dtype=torch.float64) for each in lists]
    ranks = allocate(values, [1] * len(values), budget)

    def kept(choice):
        return sum(float(v[:r].square().sum()) for v, r in zip(values, choice, strict=True))

    everything = itertools.product(*(range(len(v) + 1) for v in values))
    best = max(kept(choice) for choice in everything if sum(choice) <= budget)
    assert kept(ranks) == pytest.approx(best)
    assert sum(ranks) <= budget


def test_costs_count_and_no_entry_is_wasted():
    values = [torch.tensor([2.0, 1.0]), torch.tensor([3.0, 0.1])]
    assert allocate(values, [1, 100], 10) == [2, 0]  # the dear one does more, but does not fit
    assert allocate(values, [1, 100], 150) == [2, 1]
    assert allocate(values, [1, 100], 101, [0, 1]) == [1, 1]  # what must be is paid for first
    assert allocate([torch.zeros(0), values[0]], [1, 1], 1, [1, 0]) == [0, 1]  # none can be given where there is none


def test_as_few_directions_as_an_error_allows():
    values = [torch.tensor([2.0, 1.0]), torch.tensor([3.0])]
    norms = [5.0**0.5, 3.0]
    assert allocate_for_error(values, norms, [1, 1], 0.99) == [0, 1]
    assert allocate_for_error(values, norms, [1, 1], (1 / 14) ** 0.5) == [1, 1]
    assert allocate_for_error(values, norms, [1, 1], 1e-6) == [2, 1]
    with pytest.raises(SpecError, match=r"--max-error must be at least 0\.4"):
        allocate_for_error(values, [5.0**0.5, 3.5], [1, 1], 0.1)
