"""Adapters of products of small inner dimension, exact at their ranks; the best of a few below."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorascope.construct.gauge import nearest_gauge, solve_narrow
from lorascope.theory import NarrowMatch
from reference.cases import seeds
from reference.variants import narrow, seeded


def adapted(match, solution):
    (b1, b2), (a1, a2) = solution.factors.left, solution.factors.right
    return match.left @ (match.second + b2 @ a2) @ (match.first + b1 @ a1) @ match.right


def error(match, solution):
    size = float(match.wanted.norm()) or float(match.error.norm())
    return float((adapted(match, solution) - match.wanted).norm()) / size


@settings(max_examples=40)
@given(seeds, st.integers(1, 6), st.integers(0, 4), st.integers(0, 4), st.data())
def test_exact_at_the_least_ranks_for_generic_weights(seed, inner, more_out, more_in, data):
    out, inp = inner + more_out, inner + more_in
    ends = (data.draw(st.integers(max(inner, out - 1), out)), data.draw(st.integers(max(inner, inp - 1), inp)))
    goal = data.draw(st.integers(0, inner))
    match = narrow(seed, inner, out, inp, goal, ends)
    for ranks in (match.least_ranks, (match.least_cap,) * 2, (inner + 3, inner + 1)):
        found = solve_narrow(match, ranks)
        assert error(match, found) <= 1e-8
        assert found.residual == pytest.approx(error(match, found), abs=1e-12)
        assert found.conditions == ()
        assert all(b.shape[1] <= rank for b, rank in zip(found.factors.left, ranks, strict=True))


@settings(max_examples=20)
@given(seeds, st.integers(1, 5), st.integers(0, 4))
def test_below_the_least_ranks_nothing_is_exact_and_more_rank_is_no_worse(seed, inner, more):
    match = narrow(seed, inner, inner + more, inner + more)
    frozen = float(match.error.norm()) / float(match.wanted.norm())
    errors = [error(match, solve_narrow(match, (rank, rank))) for rank in range(inner + 1)]
    assert errors[0] == pytest.approx(frozen)
    assert min(errors[: match.least_cap]) > 1e-9
    assert max(errors[match.least_cap :]) <= 1e-8
    assert all(late <= 1.3 * early + 1e-9 for early, late in pairwise(errors))


def test_what_is_missing_is_said_with_numbers():
    match = narrow(0, 4, 6, 6)
    found = solve_narrow(match, (2, 1))
    remains = np.linalg.norm((adapted(match, found) - match.wanted).numpy(), 2)
    (note,) = found.conditions
    assert "rank too small for first to second: gap 6, inner dimension 4; ranks 2 and 1, required 3 and 3" in note
    assert f"{remains:.3g} remains" in note


def test_nothing_to_do_gives_no_adapters():
    base = narrow(0, 3, 5, 5)
    eye = torch.eye(5, dtype=torch.float64)
    same = NarrowMatch(base.names, base.first, base.second, eye, eye, base.first, base.second)
    found = solve_narrow(same, (2, 2))
    assert [b.shape for b in found.factors.left] == [(3, 0), (5, 0)]
    assert [a.shape for a in found.factors.right] == [(0, 5), (0, 3)]
    assert found.method == "none"


def test_a_frozen_factor_of_zero_is_replaced_where_ranks_allow():
    base = narrow(1, 2, 5, 5)
    match = NarrowMatch(
        base.names, 0 * base.first, base.second, base.left, base.right, base.goal_first, base.goal_second
    )
    assert match.least_cap == 2
    assert error(match, solve_narrow(match, (2, 2))) <= 1e-12
    assert error(match, solve_narrow(match, (1, 1))) > 1e-3


@settings(max_examples=20)
@given(seeds, st.integers(1, 5))
def test_the_nearest_gauge_undoes_a_rotation(seed, inner):
    generator = seeded(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    first, second, turn = draw(inner, inner + 2), draw(inner + 2, inner), torch.linalg.qr(draw(inner, inner)).Q
    found = nearest_gauge(first, second, turn.T @ first, second @ turn)
    torch.testing.assert_close(found, turn, atol=1e-8, rtol=1e-8)
