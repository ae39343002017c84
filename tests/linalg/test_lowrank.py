import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorascope.linalg import NumericalRank, numerical_rank, singular_value, svd, tolerance, truncate, truncate_weighted
from reference.cases import seeds
from reference.lowrank import assert_best

sizes = st.integers(1, 12)


def matrix_of_rank(seed, rows, columns, rank):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, min(rank, rows, columns))) @ rng.standard_normal(
        (min(rank, rows, columns), columns)
    )


@given(seeds, sizes, sizes, st.integers(0, 12), st.integers(0, 14))
def test_truncate_is_the_best_of_its_rank(seed, rows, columns, true_rank, rank):
    matrix = matrix_of_rank(seed, rows, columns, true_rank)
    left, right = truncate(torch.from_numpy(matrix), rank)
    assert_best(left.numpy(), right.numpy(), matrix, rank)
    torch.testing.assert_close(left.norm(dim=0), right.norm(dim=1))  # balanced


@given(seeds, sizes, sizes, st.integers(0, 12), st.integers(0, 12), st.integers(0, 12))
def test_truncate_weighted_is_the_best_for_the_moment(seed, rows, columns, true_rank, moment_rank, rank):
    matrix = matrix_of_rank(seed, rows, columns, true_rank)
    half = matrix_of_rank(seed + 1, columns, columns, moment_rank)
    moment = half @ half.T
    left, right = truncate_weighted(torch.from_numpy(matrix), torch.from_numpy(moment), rank)
    assert_best(left.numpy(), right.numpy(), matrix, rank, moment)


def test_truncate_weighted_looks_where_the_inputs_are():
    matrix, moment = torch.diag(torch.tensor([3.0, 2.0])).double(), torch.diag(torch.tensor([0.1, 1.0])).double()
    left, right = truncate_weighted(matrix, moment, 1)
    torch.testing.assert_close(left @ right, torch.diag(torch.tensor([0.0, 2.0])).double())
    assert truncate_weighted(matrix, 0 * moment, 2)[0].shape == (2, 0)


@pytest.mark.parametrize("shape", [(3, 4), (0, 3), (3, 0)])
def test_truncate_of_nothing(shape):
    left, right = truncate(torch.zeros(shape, dtype=torch.float64), 2)
    assert left.shape == (shape[0], 0)
    assert right.shape == (0, shape[1])


@given(seeds, sizes, sizes)
def test_svd_has_positive_peaks_whatever_the_signs_of_the_matrix(seed, rows, columns):
    matrix = torch.from_numpy(matrix_of_rank(seed, rows, columns, 12))
    left, values, right = svd(matrix)
    torch.testing.assert_close((left * values) @ right, matrix)
    assert (values[1:] <= values[:-1]).all()
    peaks = left.gather(0, left.abs().argmax(0)[None])
    assert (peaks > 0).all()
    assert torch.equal(svd(-matrix)[1], values)
    torch.testing.assert_close(svd(-matrix)[2], -right)


def test_svd_of_no_columns():
    left, values, right = svd(torch.zeros(3, 0, dtype=torch.float64))
    assert (left.shape, values.shape, right.shape) == ((3, 0), (0,), (0, 0))


@given(seeds, sizes, sizes, st.integers(0, 12), st.floats(-100, 100))
def test_numerical_rank_counts_what_was_put_in_at_any_scale(seed, rows, columns, rank, exponent):
    rng = np.random.default_rng(seed)
    rank = min(rank, rows, columns)
    left, right = (np.linalg.qr(rng.standard_normal((n, max(rank, 1))))[0][:, :rank] for n in (rows, columns))
    matrix = torch.from_numpy(2.0**exponent * (left * rng.uniform(0.5, 2, rank)) @ right.T)
    found = numerical_rank(matrix)
    assert found.rank == rank
    assert found.below <= found.tolerance < found.above
    assert (found.above == np.inf) == (rank == 0)


def test_numerical_rank_against_the_scale_the_terms_and_the_type():
    matrix = torch.diag(torch.tensor([1.0, 1e-9, 1e-14, 0.0])).double()
    assert [numerical_rank(matrix, scale=s).rank for s in (None, 1e-9, 1.0, 1e4, 1e8)] == [3, 3, 3, 2, 1]
    assert numerical_rank(matrix, terms=10).rank == 2
    assert numerical_rank(matrix, dtype=torch.float32).rank == 1
    assert numerical_rank(matrix.float()).rank == 1
    assert numerical_rank(torch.zeros(0, 3)) == NumericalRank(0, 0.0, float("inf"), 0.0)
    assert numerical_rank(matrix).above == pytest.approx(1e-14)
    assert numerical_rank(matrix, terms=10).below == pytest.approx(1e-14)


def test_singular_value_counts_from_1_and_ends_in_zeros():
    matrix = torch.diag(torch.tensor([1.0, 3.0]))
    assert [singular_value(matrix, index) for index in (1, 2, 3, 9)] == [3.0, 1.0, 0.0, 0.0]


def test_tolerance_grows_with_everything_and_never_shrinks_below_one_operation():
    eps = torch.finfo(torch.float64).eps
    assert tolerance(0) == tolerance(1) == 4 * eps
    assert tolerance(3, 2.0, 5.0) == pytest.approx(120 * eps)
    assert tolerance(3, condition=0.1) == tolerance(3)
    assert tolerance(1, dtype=torch.float32) == pytest.approx(4 * torch.finfo(torch.float32).eps)
