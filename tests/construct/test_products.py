"""Each construction turns a chain of matrices into the product asked for, within the ranks asked for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorascope.construct.factors import SPARE, Factors, balance, factor_differences
from lorascope.construct.flag import adapted_from_flag, two_sided_flag
from lorascope.construct.path import correct, orthogonal_path, polish, share, shrink
from lorascope.construct.quotient import solve_in_quotient
from lorascope.construct.schur import schur
from lorascope.construct.split import split
from lorascope.construct.tangent import Tangent
from lorascope.errors import AssumptionError
from reference.cases import matrices, seeds, tensors
from reference.networks import chain, low_rank, paper_split


def stack(arrays):
    return torch.stack(tensors(arrays))


def assert_solves(factors, weights, goal, ranks, tolerance=1e-9):
    """Every delta keeps to its rank by its shapes, and the adapted product is the goal."""
    shapes = [(b.shape[1], a.shape[0]) for b, a in zip(factors.left, factors.right, strict=True)]
    assert all(columns == rows <= rank for (columns, rows), rank in zip(shapes, ranks, strict=True)), (
        f"ranks {shapes} where {ranks} are allowed"
    )
    adapted = [w.numpy() + (b @ a).numpy() for w, b, a in zip(weights, factors.left, factors.right, strict=True)]
    off = np.linalg.norm(chain(adapted) - goal)
    scale = max(np.linalg.norm(goal), np.linalg.norm(chain(weights.numpy())))
    assert off <= tolerance * scale, f"the product is {off} off a goal of {np.linalg.norm(goal)}"


def test_the_oracle_rejects_a_wrong_product_and_too_many_columns():
    weights, one = stack([np.eye(2)] * 2), torch.eye(2, dtype=torch.float64)
    good = Factors((one[:, :1], 0 * one[:, :1]), (one[:1], one[:1]))
    assert_solves(good, weights, np.diag([2.0, 1.0]), (1, 1))
    with pytest.raises(AssertionError, match="off a goal"):
        assert_solves(good, weights, np.diag([2.001, 1.0]), (1, 1))
    with pytest.raises(AssertionError, match="are allowed"):
        assert_solves(good, weights, np.diag([2.0, 1.0]), (1, 0))


@st.composite
def parts_of(draw, total, depth):
    """Nonnegative parts that sum to the total, zeros anywhere."""
    cuts = sorted(draw(st.lists(st.integers(0, total), min_size=depth - 1, max_size=depth - 1)))
    return tuple(np.diff([0, *cuts, total]).tolist())


@settings(max_examples=60)
@given(seeds, st.integers(1, 12), st.integers(1, 5), st.data())
def test_schur_for_any_split_of_any_rank(seed, width, depth, data):
    rng = np.random.default_rng(seed)
    weights = matrices(rng, depth, width)
    rank = data.draw(st.integers(0, width))
    parts = data.draw(parts_of(rank, depth))
    left, right = rng.standard_normal((width, rank)), rng.standard_normal((rank, width))
    factors = schur(stack(weights), *tensors([left, right]), parts)
    assert_solves(factors, stack(weights), chain(weights) + left @ right, parts, 1e-7)


SPLITS = [
    (1, 1),
    (1, 2, 1),
    (3, 1),
    (1, 3),
    (1, 1, 1, 1),
    (0, 1, 0, 1),
    (1, 0, 1),
    (1, 0, 0, 1, 2),
    (2, 2),
    (1, 0, 2, 1),
]


@pytest.mark.parametrize("parts", SPLITS)
@pytest.mark.parametrize("spin", [0.3, 1.0, 30.0])
@pytest.mark.parametrize("real", [-1.0, 0.0, -3.0])
def test_schur_mends_complex_pairs_wherever_they_are_cut(parts, spin, real):
    """K with pairs real ± i spin, sheared: 1 + y_p x_p may vanish (real = -1), and boundaries cut the pairs."""
    rank = sum(parts)
    core = np.zeros((rank, rank))
    for start in range(0, rank - 1, 2):
        core[start : start + 2, start : start + 2] = [[real, 5 * spin], [-spin / 5, real]]
    core[rank - rank % 2 :, rank - rank % 2 :] = 0.5
    core += np.triu(np.ones((rank, rank)), 2)
    weights = stack([np.eye(rank)] * len(parts))
    factors = schur(weights, torch.from_numpy(core), torch.eye(rank, dtype=torch.float64), parts)
    assert_solves(factors, weights, np.eye(rank) + core, parts, 1e-10)


def test_schur_balances_and_gives_zero_columns_for_a_zero_correction():
    weights = stack(matrices(np.random.default_rng(0), 2, 3))
    factors = schur(weights, *tensors([np.zeros((3, 2)), np.zeros((2, 3))]), (1, 1))
    assert_solves(factors, weights, chain(weights.numpy()), (1, 1))
    rng = np.random.default_rng(1)
    factors = schur(weights, *tensors([100 * rng.standard_normal((3, 2)), rng.standard_normal((2, 3))]), (1, 1))
    for b, a in zip(factors.left, factors.right, strict=True):
        torch.testing.assert_close(b.norm(dim=0), a.norm(dim=1))


@settings(max_examples=30)
@given(seeds, st.integers(1, 8), st.integers(1, 4), st.data())
def test_split_is_the_papers_own(seed, width, depth, data):
    rng = np.random.default_rng(seed)
    weights, target = matrices(rng, depth, width), matrices(rng, 1, width)[0]
    ranks = data.draw(parts_of(data.draw(st.integers(0, width)), depth))
    factors = split(stack(weights), torch.from_numpy(target - chain(weights)), ranks, sum(ranks))
    slow = paper_split(weights, target, list(ranks))
    for found, wanted in zip(factors.adapted(stack(weights)), slow, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6 * (1 + np.abs(wanted).max()))
    assert_solves(factors, stack(weights), chain(weights) + low_rank(target - chain(weights), sum(ranks)), ranks, 1e-7)


def test_split_names_what_is_singular_and_how_far():
    eye = np.eye(2)
    with pytest.raises(AssumptionError, match=r"Lemma 1.*frozen weight") as raised:
        split(stack([eye, np.diag([1.0, 0.0])]), torch.eye(2, dtype=torch.float64), (1, 1), 2)
    assert (raised.value.measured, raised.value.theorem) == (0.0, "Lemma 1")
    assert 0 < raised.value.required < 1e-12
    with pytest.raises(AssumptionError, match=r"Theorem 3.*LR_1\(E\).*is 0, required"):  # I + LR_1(E) = diag(0, 1)
        split(stack([eye, eye]), torch.diag(torch.tensor([-1.0, 0.5])).double(), (1, 1), 2, "Theorem 3")
    with pytest.raises(AssumptionError, match="is 0, required"):
        split(stack([0 * eye]), torch.eye(2, dtype=torch.float64), (2,), 2)


@settings(max_examples=40)
@given(seeds, st.integers(1, 10), st.integers(1, 4), st.data())
def test_a_flag_of_any_basis_is_exact_with_the_ranks_of_its_parts(seed, width, depth, data):
    rng = np.random.default_rng(seed)
    weights, goal = matrices(rng, depth, width), matrices(rng, 1, width)[0]
    parts = data.draw(parts_of(width, depth))
    basis = np.linalg.qr(rng.standard_normal((width, width)))[0]
    for flag in (torch.from_numpy(basis), two_sided_flag(stack(weights), torch.from_numpy(goal), parts)):
        adapted = adapted_from_flag(stack(weights), torch.from_numpy(goal), flag, parts)
        sizes = [np.linalg.norm(matrix) for matrix in adapted.numpy()]
        level = 1e-12 * np.prod([1 + size for size in sizes]) * 1e3
        np.testing.assert_allclose(chain(list(adapted.numpy())), goal, atol=level)
        for difference, part in zip(adapted.numpy() - np.array(weights), parts, strict=True):
            values = np.append(np.linalg.svd(difference, compute_uv=False), 0.0)
            assert values[part] <= level


def test_the_two_sided_flag_is_singular_on_commuting_layers():
    weights, goal = stack([np.diag([2.0, 1.0])] * 2), torch.diag(torch.tensor([2.0, 3.0])).double()
    flag = two_sided_flag(weights, goal, (1, 1))
    try:
        adapted = adapted_from_flag(weights, goal, flag, (1, 1))
    except torch.linalg.LinAlgError:
        return
    assert not torch.isfinite(adapted).all() or float(adapted.abs().max()) > 1e6


@pytest.mark.parametrize(
    ("width", "depth", "ranks"),
    [(8, 4, (2,) * 4), (6, 3, (2, 2, 2)), (5, 4, (2, 0, 1, 2)), (3, 3, (1,) * 3), (4, 2, (4, 4))],
)
def test_the_orthogonal_path_arrives_exactly_and_with_small_adapters(width, depth, ranks):
    rng = np.random.default_rng(width)
    weights, goal = matrices(rng, depth, width, "generic"), matrices(rng, 1, width, "generic")[0]
    factors, report = orthogonal_path(stack(weights), torch.from_numpy(goal), ranks)
    assert report.reached == 1
    assert report.steps >= 1
    assert_solves(factors, stack(weights), goal, ranks, 1e-12)
    assert factors.norm() <= 20


def test_the_orthogonal_path_without_time_still_solves():
    rng = np.random.default_rng(0)
    weights, goal = stack(matrices(rng, 3, 6, "generic")), matrices(rng, 1, 6, "generic")[0]
    factors, _ = orthogonal_path(weights, torch.from_numpy(goal), (2, 2, 2), deadline=0.0)
    assert_solves(factors, weights, goal, (2, 2, 2), 1e-11)


@pytest.mark.parametrize(
    "goal", [np.diag([1.0, -1.0, 1.0, 1.0]), np.diag([1.0, 1.0, -1.0]), -np.eye(3), np.eye(4)[[1, 2, 3, 0]]]
)
def test_the_orthogonal_path_from_reflections_and_permutations(goal):
    width = len(goal)
    factors, report = orthogonal_path(stack([np.eye(width)] * 2), torch.from_numpy(goal), (width - width // 2,) * 2)
    assert report.reached == 1
    assert_solves(factors, stack([np.eye(width)] * 2), goal, (width - width // 2,) * 2, 1e-10)


@given(st.integers(0, 30), st.lists(st.integers(0, 12), min_size=1, max_size=6))
def test_share_fills_within_the_ranks(width, ranks):
    width = min(width, sum(ranks))
    parts = share(width, tuple(ranks))
    assert sum(parts) == width
    assert all(0 <= part <= rank for part, rank in zip(parts, ranks, strict=True))


@settings(max_examples=30)
@given(seeds, st.integers(2, 10), st.integers(2, 4), st.data())
def test_the_quotient_lifts_what_its_solver_finds(seed, width, depth, data):
    rng = np.random.default_rng(seed)
    weights = matrices(rng, depth, width)
    rank = data.draw(st.integers(1, width))
    left, right = rng.standard_normal((width, rank)), rng.standard_normal((rank, width))
    parts = share(rank, (rank,) * depth)
    seen = []

    def solver(small, goal):
        seen.append((small.shape, goal.shape))
        outputs = goal - torch.from_numpy(chain(list(small.numpy())))
        return schur(small, outputs, torch.eye(len(goal), dtype=goal.dtype), parts)

    factors = solve_in_quotient(stack(weights), *tensors([left, right]), solver)
    assert seen == [((depth, rank, rank), (rank, rank))]
    assert_solves(factors, stack(weights), chain(weights) + left @ right, parts, 1e-6)


@settings(max_examples=20)
@given(seeds, st.integers(1, 8), st.integers(1, 4), st.data())
def test_factors_stack_trim_balance_and_take_differences(seed, width, depth, data):
    rng = np.random.default_rng(seed)
    ranks = tuple(data.draw(st.lists(st.integers(0, width), min_size=depth, max_size=depth)))
    left = tuple(tensors([rng.standard_normal((width, rank)) for rank in ranks]))
    right = tuple(tensors([rng.standard_normal((rank, width)) for rank in ranks]))
    factors = Factors(left, right)
    deltas = factors.deltas()
    assert factors.norm() == pytest.approx(max(np.linalg.norm(delta.numpy(), 2) for delta in deltas))
    padded = factors.stacked(width)
    for found, wanted in zip(padded[0] @ padded[1], deltas, strict=True):
        torch.testing.assert_close(found, wanted)
    trimmed = Factors.trimmed(*padded)
    assert [a.shape[0] for a in trimmed.right] == list(ranks)
    b, a = balance(*padded)
    for index, wanted in enumerate(deltas):
        torch.testing.assert_close(b[index] @ a[index], wanted, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(b[index].T @ b[index], a[index] @ a[index].T, rtol=1e-8, atol=1e-8)
    weights = stack(matrices(rng, depth, width))
    b, a = factor_differences(torch.stack(factors.adapted(weights)), weights, ranks)
    assert b.shape == (depth, width, max(ranks))
    for found, wanted, weight in zip(b @ a, deltas, weights, strict=True):  # up to what rank to spare starts with
        off, size = (float(torch.linalg.matrix_norm(matrix, 2)) for matrix in (found - wanted, weight))
        assert off <= SPARE * size * (1 + 1e-9) + 1e-9
    assert SPARE <= 0.01


def tangent_at(width, depth, rank, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    weights, goal = stack(matrices(np.random.default_rng(seed), depth, width)), torch.eye(width, dtype=torch.float64)
    left, right = 0.3 * draw(depth, width, rank), 0.3 * draw(depth, rank, width)
    return weights, goal, left, right, draw


def test_the_tangent_is_the_derivative_and_its_transpose():
    weights, goal, left, right, draw = tangent_at(4, 3, 2)
    here = Tangent(weights, goal, left, right)
    change = draw(3, 4, 2), draw(3, 2, 4)
    step = 1e-6
    ahead = Tangent(weights, goal, left + step * change[0], right + step * change[1]).residual
    behind = Tangent(weights, goal, left - step * change[0], right - step * change[1]).residual
    torch.testing.assert_close(here.push(*change), (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-7)
    seen = draw(4, 4)
    pulled = here.pull(seen)
    inner = sum(float((ours * theirs).sum()) for ours, theirs in zip(pulled, change, strict=True))
    assert inner == pytest.approx(float((here.push(*change) * seen).sum()))
    assert here.error == pytest.approx(float(here.residual.norm() / goal.norm()))
    images = [here.push(*here.pull(unit.view(4, 4))) for unit in torch.eye(16, dtype=torch.float64)]
    trace = sum(float(image.flatten()[index]) for index, image in enumerate(images))
    assert here.scale == pytest.approx(trace / 16)


@pytest.mark.parametrize(("width", "depth"), [(3, 2), (24, 2), (26, 2), (26, 5), (70, 2)])
@pytest.mark.parametrize("damping", [1e-8, 1e-2])
def test_both_ways_to_solve_the_normal_equations_keep_their_promise(width, depth, damping):
    """Factorised up to some width, by conjugate gradients (which stop at a tenth of the residual) beyond."""
    weights, goal, left, right, draw = tangent_at(width, depth, 1 + width // depth)
    here, change = Tangent(weights, goal, left, right), draw(width, width)
    solution = here.solve(change, damping)
    back = here.push(*here.pull(solution)) + damping * here.scale * solution
    dense = width <= 24 or (width, depth) == (26, 5)
    assert float((back - change).norm()) <= (1e-6 if dense else 0.1) * float(change.norm())


def test_where_no_factorisation_exists_there_is_no_step_and_nothing_moves():
    weights, goal = stack([np.zeros((2, 2))] * 2), torch.eye(2, dtype=torch.float64)
    left = right = torch.zeros(2, 2, 2, dtype=torch.float64)
    here = Tangent(weights, goal, left, right)
    assert here.solve(here.residual, 1e-14) is None
    assert torch.equal(correct(weights, goal, left, right, 1e-12)[0], left)
    assert torch.equal(shrink(weights, goal, left, right, 1e-5, count=3, pace=0.3)[0], left)
    assert torch.equal(polish(weights, goal, left, right)[0], left)


def test_correcting_finds_the_solution_nearby_and_shrinking_keeps_it():
    weights, _, left, right, _ = tangent_at(4, 3, 2)
    goal = torch.from_numpy(chain(list((weights + 2 * left @ right).numpy())))
    left, right = correct(weights, goal, left, right, 1e-13, rounds=40)
    assert Tangent(weights, goal, left, right).error <= 1e-12
    smaller = shrink(weights, goal, left, right, 1e-9, count=5, pace=0.3)
    assert Tangent(weights, goal, *smaller[:2]).error <= 1e-9
    size = lambda *factors: sum(float(factor.square().sum()) for factor in factors)  # noqa: E731
    assert size(*smaller[:2]) < size(left, right)
    assert Tangent(weights, goal, *polish(weights, goal, *smaller[:2])).error <= 1e-14
