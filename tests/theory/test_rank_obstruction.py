import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorascope.theory.linear import least_error, rank_obstruction
from reference.cases import matrices, seeds, tensors
from reference.networks import assert_not_undercut
from reference.ranks import integer_product, integer_rank


@st.composite
def singular_chains(draw):
    """Integer factors of any ranks (0 included), a target, and ranks that may differ."""
    rng = np.random.default_rng(draw(seeds))
    width, depth = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    frozen = []
    for _ in range(depth):
        rank = draw(st.integers(0, width))
        frozen.append(rng.integers(-2, 3, (width, rank)) @ rng.integers(-2, 3, (rank, width)))
    return frozen, rng.standard_normal((width, width)), [draw(st.integers(0, width)) for _ in range(depth)], rng


@given(singular_chains())
def test_it_is_the_tail_beyond_the_narrowest_part(case):
    frozen, target, ranks, rng = case
    depth = len(frozen)
    reach = min(
        integer_rank(integer_product(frozen[a:b])) + sum(ranks[a:b])
        for a in range(depth)
        for b in range(a + 1, depth + 1)
    )
    tail = [*np.linalg.svd(target)[1], *[0.0] * (reach + 1)]
    obstruction = rank_obstruction(tensors(frozen), torch.from_numpy(target), ranks)
    assert obstruction == pytest.approx(tail[reach], abs=1e-12)
    assert_not_undercut(obstruction, [weight.astype(float) for weight in frozen], target, ranks, 5, rng)


@given(seeds, st.integers(1, 12), st.integers(1, 5), st.integers(0, 4))
def test_non_singular_layers_obstruct_nothing(seed, width, depth, rank):
    *frozen, target = tensors(matrices(np.random.default_rng(seed), depth + 1, width, "generic"))
    assert rank_obstruction(frozen, target, rank) == 0


def test_an_ill_conditioned_product_of_non_singular_layers_obstructs_nothing():
    layer = torch.diag(torch.logspace(0, -6, 4, dtype=torch.float64))
    assert rank_obstruction([layer] * 4, torch.eye(4, dtype=torch.float64), 0) == 0


@pytest.mark.parametrize("rank", range(5))
def test_two_zero_layers_reach_the_rank_of_one_adapter_only(rank):
    values = torch.tensor([5.0, 4.0, 3.0, 2.0], dtype=torch.float64)
    zeros = [torch.zeros(4, 4, dtype=torch.float64)] * 2
    tail = [*values.tolist(), 0.0]
    assert rank_obstruction(zeros, torch.diag(values), rank) == pytest.approx(tail[rank])
    # attained: B2 A2 B1 A1 with A2 B1 = I
    kept = torch.diag(torch.cat([values[:rank], torch.zeros(4 - rank, dtype=torch.float64)]))
    assert float(torch.linalg.matrix_norm(torch.diag(values) - kept, 2)) == pytest.approx(tail[rank])
    assert least_error(zeros, torch.diag(values), rank) == pytest.approx([*values.tolist(), *[0.0] * 5][2 * rank])


def test_a_single_layer_never_needs_to_be_non_singular():
    target = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    frozen = [torch.diag(torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64))]
    assert rank_obstruction(frozen, target, 1) == pytest.approx(least_error(frozen, target, 1)) == pytest.approx(1.0)
