"""The normal equations of adapted ReLU networks, and the coordinates they are in."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorascope.construct.refine.point import Point, mean_square
from lorascope.construct.refine.residuals import COARSE, SPARE, NetworkResiduals
from lorascope.optim import LeastSquares, levenberg_marquardt
from reference.cases import seeds
from reference.refinement import assert_normal_equations, family_of, outputs_of

# float64, and float32 where the loss is above the switch
FINE, ROUGH = 1e-11, 1e-5


def problem_of(rng, sizes, ranks, samples=40, near=None):
    """Normal equations at a random point; ``near``: the target is the network itself, moved by so much."""
    family = family_of(rng, sizes, ranks)
    draw = lambda *shape: torch.from_numpy(rng.standard_normal(shape))  # noqa: E731
    shapes = [weight.shape for weight in family.weights]
    point = Point(
        tuple(draw(rank, inp) for (_, inp), rank in zip(shapes, ranks, strict=True)),
        tuple(0.5 * draw(out, rank) for (out, _), rank in zip(shapes, ranks, strict=True)),
        tuple(0.3 + 0.3 * draw(out) for out, _ in shapes),
    )
    inputs = draw(samples, sizes[0])
    outputs = draw(samples, sizes[-1]) if near is None else outputs_of(family, point.parts(), inputs)
    problem = NetworkResiduals(family, inputs, outputs + (near or 0.0) * draw(samples, sizes[-1]))
    return problem, problem.normalized(problem.flat(point))


SHAPES = {
    "width 1": ((1, 1), (1,)),
    "width 1, rank 0": ((1, 1, 1), (0, 0)),
    "one group": ((4, 4), (2,)),
    "rank 0": ((3, 3, 3), (0, 0)),
    "rank 0 beside others": ((3, 3, 3, 3), (2, 0, 1)),
    "rank of the width": ((3, 3, 3), (3, 3)),
    "several groups": ((4, 4, 4, 4), (1, 2, 1)),
    "not square": ((2, 5, 3, 4), (2, 1, 3)),
}


@pytest.mark.parametrize(("sizes", "ranks"), SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("near", "tolerance"), [(None, ROUGH), (1e-4, FINE), (0.0, FINE)])
def test_normal_equations_are_those_of_the_jacobian(sizes, ranks, near, tolerance):
    problem, point = problem_of(np.random.default_rng(0), sizes, ranks, near=near)
    assert isinstance(problem, LeastSquares)
    assert (problem.loss(point) > COARSE) == (near is None)
    assert_normal_equations(*problem.normal_equations(point), problem, point, tolerance)


@settings(max_examples=60)
@given(seeds, st.lists(st.integers(1, 6), min_size=2, max_size=4), st.data())
def test_normal_equations_at_random_sizes(seed, sizes, data):
    ranks = tuple(data.draw(st.integers(0, min(sizes[layer : layer + 2]))) for layer in range(len(sizes) - 1))
    problem, point = problem_of(np.random.default_rng(seed), sizes, ranks, samples=12, near=1e-4)
    assert_normal_equations(*problem.normal_equations(point), problem, point, FINE)


def test_samples_in_several_chunks_add_up():
    problem, point = problem_of(np.random.default_rng(1), (3, 4, 2), (1, 2), samples=1203, near=1e-4)
    assert_normal_equations(*problem.normal_equations(point), problem, point, FINE)


def test_the_oracle_rejects_wrong_normal_equations():
    problem, point = problem_of(np.random.default_rng(0), (4, 4, 4), (2, 1), near=1e-4)
    matrix, gradient = problem.normal_equations(point)
    assert_normal_equations(matrix, gradient, problem, point, FINE)
    forgot = matrix.clone()
    forgot[0, -1] = 0
    for wrong in [(2 * matrix, gradient), (forgot, gradient), (matrix, -gradient), (matrix, 0 * gradient)]:
        with pytest.raises(AssertionError):
            assert_normal_equations(*wrong, problem, point, FINE)


@pytest.mark.parametrize(("sizes", "ranks"), SHAPES.values(), ids=SHAPES)
def test_steps_span_all_moves_of_the_factors_and_each_once(sizes, ranks):
    """The tangent of ``B A`` and b: no direction of the factors is missing, none is there twice."""
    problem, point = problem_of(np.random.default_rng(2), sizes, ranks)

    def networks(flat):
        found = problem.point(flat)
        return torch.cat([part.reshape(-1) for part in (*found.weights(problem.family), *found.biases)])

    unknowns = sum(rank * (out + inp - rank) + out for rank, (inp, out) in zip(ranks, pairwise(sizes), strict=True))
    step = torch.zeros(unknowns, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian
    ours = jacobian(lambda step: networks(problem.moved(point, step)), step)
    plain = jacobian(networks, point)
    assert torch.linalg.matrix_rank(ours) == unknowns
    missing = plain - ours @ torch.linalg.lstsq(ours, plain).solution
    assert float(missing.norm()) <= 1e-10 * float(plain.norm())


@pytest.mark.parametrize(("sizes", "ranks"), SHAPES.values(), ids=SHAPES)
def test_a_small_step_against_the_gradient_lowers_the_loss_as_foretold(sizes, ranks):
    problem, point = problem_of(np.random.default_rng(5), sizes, ranks)
    _, gradient = problem.normal_equations(point)
    slope = float(gradient.square().sum())
    assert slope > 0
    rate = 1e-5 / slope
    gain = problem.loss(point) - problem.loss(problem.moved(point, -rate * gradient))
    assert gain == pytest.approx(2 * rate * slope, rel=0.02)


@pytest.mark.parametrize(("sizes", "ranks"), SHAPES.values(), ids=SHAPES)
def test_normalizing_keeps_the_network_and_balances_the_factors(sizes, ranks):
    problem, point = problem_of(np.random.default_rng(3), sizes, ranks)
    start = torch.randn(len(point), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before, after = problem.point(start), problem.point(problem.normalized(start))
    for one, other in zip(before.weights(problem.family), after.weights(problem.family), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(one, other) for one, other in zip(before.biases, after.biases, strict=True))
    for a, b in zip(after.right, after.left, strict=True):
        torch.testing.assert_close(a @ a.T, b.T @ b, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(a @ a.T, torch.diag((a @ a.T).diagonal()), rtol=1e-10, atol=1e-10)


def test_factors_of_zero_are_woken_without_being_felt():
    problem, point = problem_of(np.random.default_rng(4), (4, 4), (2,))
    found = problem.point(point)
    asleep = problem.flat(Point(found.right, tuple(0 * b for b in found.left), found.biases))
    awake = problem.point(problem.normalized(asleep))
    change = awake.weights(problem.family)[0] - problem.family.weights[0]
    values = torch.linalg.svdvals(change)[:2]
    torch.testing.assert_close(values, torch.full_like(values, SPARE), rtol=1e-9, atol=0)
    assert problem.loss(problem.normalized(asleep)) == pytest.approx(problem.loss(asleep), rel=1e-4)


def test_flat_and_point_are_each_others_inverse_and_the_loss_is_the_mean_square():
    problem, point = problem_of(np.random.default_rng(6), (2, 5, 3), (2, 0))
    found = problem.point(point)
    assert torch.equal(problem.flat(found), point)
    assert [part.shape for part in found.right] == [(2, 2), (0, 5)]
    assert [part.shape for part in found.left] == [(5, 2), (3, 0)]
    assert [part.shape for part in found.biases] == [(5,), (3,)]
    plain = outputs_of(problem.family, found.parts(), problem.inputs) - problem.outputs
    assert problem.loss(point) == pytest.approx(float(plain.square().mean()), rel=1e-12)
    assert float(mean_square(problem.family, found, problem.inputs, problem.outputs)) == pytest.approx(
        problem.loss(point), rel=1e-12
    )
    assert problem.loss(point * torch.nan) == torch.inf


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_a_network_within_reach_is_found_to_rounding(seed):
    """From nearby, Levenberg-Marquardt passes the switch to float64 and goes on to the bottom."""
    problem, point = problem_of(np.random.default_rng(seed), (4, 4, 4), (2, 1), samples=300, near=0.0)
    noise = torch.randn(len(point), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = point + 0.05 * noise
    assert problem.loss(start) > COARSE
    assert levenberg_marquardt(problem, start, 12).loss < 1e-25
