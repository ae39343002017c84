"""Roots of second moments against the pseudo-inverse, well away from singular and singular."""

import pytest
import torch

from lorascope.errors import ShapeError, SpecError
from lorascope.hf.second_moment import root_of


def moment(size, rank, generator):
    factor = torch.randn(size, rank, generator=generator, dtype=torch.float64)
    return factor @ factor.T / max(rank, 1)


@pytest.mark.parametrize(("size", "rank"), [(1, 1), (6, 6), (6, 9), (6, 3), (6, 1), (6, 0), (1, 0)])
def test_a_root_squares_to_the_moment_and_undoes_itself(size, rank, generator):
    given = moment(size, rank, generator)
    root = root_of(given)
    assert root.factor.shape == (size, min(size, rank))
    torch.testing.assert_close(root.factor @ root.factor.T, given)
    inverse = torch.linalg.pinv(root.factor)
    rows = torch.randn(4, root.factor.shape[1], generator=generator, dtype=torch.float64)
    columns = torch.randn(size, 2, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(root.over(rows), rows @ inverse)
    torch.testing.assert_close(root.under(columns), inverse @ columns)
    torch.testing.assert_close(root.times(root.over(rows)), rows)


def test_a_moment_that_is_nearly_singular_leaves_rounding_out(generator):
    vectors = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))[0]
    root = root_of(vectors * torch.tensor([1.0, 1e-3, 1e-6, 1e-17, 0.0]) @ vectors.T)
    assert root.factor.shape == (5, 3)


def test_what_is_no_second_moment_is_refused():
    with pytest.raises(ShapeError, match="square"):
        root_of(torch.ones(2, 3))
    with pytest.raises(SpecError, match="finite"):
        root_of(torch.full((2, 2), torch.nan))
    with pytest.raises(SpecError, match="negative eigenvalue"):
        root_of(torch.diag(torch.tensor([1.0, -0.1])))
