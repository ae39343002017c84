"""Levenberg-Marquardt on problems with known solutions, and where it must stop."""

import math
from dataclasses import dataclass, field
from time import monotonic

import pytest
import torch

from lorascope.optim import levenberg_marquardt


@dataclass
class Problem:
    """Residuals of a flat point; the Jacobian by autograd."""

    residuals: object
    formed: int = field(default=0)

    def normalized(self, point):
        return point

    def moved(self, point, step):
        return point + step

    def loss(self, point):
        return float(self.residuals(point).square().mean())

    def normal_equations(self, point):
        self.formed += 1
        jacobian = torch.autograd.functional.jacobian(self.residuals, point)
        value = self.residuals(point)
        return jacobian.T @ jacobian / len(value), jacobian.T @ value / len(value)


class Uphill(Problem):
    def normal_equations(self, point):
        matrix, gradient = super().normal_equations(point)
        return matrix, -gradient


class Disturbing(Problem):
    """Its best-scaled parameters are only nearly the same model."""

    def normalized(self, point):
        return point + 1e-3


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def linear(generator, rows, columns, rank=None):
    matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    if rank is not None:
        matrix = matrix[:, :rank] @ torch.randn(rank, columns, generator=generator, dtype=torch.float64)
    return matrix, torch.randn(rows, generator=generator, dtype=torch.float64)


# residuals, start, solution, loss there
KNOWN = {
    "Rosenbrock": (lambda x: torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]]), (-1.2, 1.0), (1.0, 1.0), 0.0),
    "Beale": (
        lambda x: tensor(1.5, 2.25, 2.625) - x[0] * (1 - torch.stack([x[1], x[1] ** 2, x[1] ** 3])),
        (1.0, 1.0),
        (3.0, 0.5),
        0.0,
    ),
    # the second coordinate's curvature is 12 orders below the first one's
    "badly scaled": (lambda x: torch.stack([1e3 * (x[0] - 1), 1e-3 * (x[1] - 2)]), (0.0, 0.0), (1.0, 2.0), 0.0),
    "residual left": (lambda x: torch.stack([x[0] + 1, 0.1 * x[0] ** 2 + x[0] - 1]), (1.0,), (0.0,), 1.0),
}


@pytest.mark.parametrize(("residuals", "start", "solution", "least"), KNOWN.values(), ids=KNOWN)
def test_known_solutions_are_found(residuals, start, solution, least):
    found = levenberg_marquardt(Problem(residuals), tensor(*start), 200, patience=10)
    torch.testing.assert_close(found.point, tensor(*solution), rtol=1e-6, atol=1e-6)
    assert found.loss == pytest.approx(least, abs=1e-15, rel=1e-9)


def test_powells_function_whose_jacobian_is_singular_at_the_solution():
    def residuals(x):
        return torch.stack(
            [x[0] + 10 * x[1], 5**0.5 * (x[2] - x[3]), (x[1] - 2 * x[2]) ** 2, 10**0.5 * (x[0] - x[3]) ** 2]
        )

    found = levenberg_marquardt(Problem(residuals), tensor(3.0, -1.0, 0.0, 1.0), 100)
    assert found.loss < 1e-20


@pytest.mark.parametrize(("rows", "columns"), [(30, 5), (6, 6), (40, 1)])
def test_linear_least_squares_end_at_the_exact_solution(generator, rows, columns):
    matrix, wanted = linear(generator, rows, columns)
    found = levenberg_marquardt(Problem(lambda x: matrix @ x - wanted), torch.zeros(columns).double(), 50)
    exact = torch.linalg.lstsq(matrix, wanted[:, None]).solution[:, 0]
    torch.testing.assert_close(found.point, exact, rtol=1e-8, atol=1e-8)
    assert found.steps < 15


def test_singular_normal_equations_reach_the_least_loss_and_stay_finite(generator):
    matrix, wanted = linear(generator, 20, 6, rank=3)
    start = torch.randn(6, generator=generator, dtype=torch.float64)
    found = levenberg_marquardt(Problem(lambda x: matrix @ x - wanted), start, 50)
    solution = torch.linalg.pinv(matrix, rtol=1e-10) @ wanted
    assert found.loss == pytest.approx(float((matrix @ solution - wanted).square().mean()), rel=1e-9)
    assert float(found.point.norm()) < 10 * (float(start.norm()) + float(solution.norm()))


@pytest.mark.parametrize("value", [1.0, math.nan, math.inf])
def test_residuals_that_do_not_depend_on_the_point_end_at_the_start(value):
    problem = Problem(lambda x: 0 * x[:1] + value)
    found = levenberg_marquardt(problem, tensor(1.0, 2.0), 5)
    assert torch.equal(found.point, tensor(1.0, 2.0))
    assert found.steps == 0
    assert found.loss == pytest.approx(value**2, nan_ok=True)


def test_more_steps_are_never_worse_and_the_loss_is_that_of_the_point():
    residuals, start = KNOWN["Rosenbrock"][:2]
    before = math.inf
    for steps in range(12):
        found = levenberg_marquardt(Problem(residuals), tensor(*start), steps)
        assert found.steps <= steps
        assert found.loss == Problem(residuals).loss(found.point)
        assert found.loss <= before
        before = found.loss


def test_a_wrong_direction_is_not_taken():
    problem = Uphill(lambda x: x - 1)
    found = levenberg_marquardt(problem, tensor(3.0, 4.0), 10)
    assert torch.equal(found.point, tensor(3.0, 4.0))
    assert (found.steps, problem.formed) == (0, 1)


def test_a_normalisation_that_disturbs_is_undone_where_no_step_gains():
    problem = Disturbing(lambda x: torch.cat([x - 1, x + 1]))  # least at 0, where 1 remains
    found = levenberg_marquardt(problem, tensor(0.0), 10)
    assert found.loss == problem.loss(found.point) == 1.0


@pytest.mark.parametrize("how", [{"steps": 0}, {"steps": 9, "deadline": -math.inf}, {"steps": 9, "patience": 0}])
def test_no_step_where_none_is_allowed(how):
    problem = Problem(lambda x: x - 1)
    found = levenberg_marquardt(problem, tensor(3.0), **how)
    assert torch.equal(found.point, tensor(3.0))
    assert (found.loss, found.steps, problem.formed) == (4.0, 0, 0)


def test_the_step_in_progress_at_the_deadline_is_the_last():
    class Slow(Problem):
        def normal_equations(self, point):
            while monotonic() <= end:
                pass
            return super().normal_equations(point)

    end = monotonic() + 0.02
    found = levenberg_marquardt(Slow(lambda x: x**2), tensor(1.0), 100, deadline=end)
    assert found.steps == 1


@pytest.mark.parametrize("patience", [1, 2, 5])
def test_small_gains_in_a_row_end_the_descent(patience):
    # a step halves x, so each gains 15/16
    found = levenberg_marquardt(Problem(lambda x: x**2), tensor(1.0), 100, least_gain=0.99, patience=patience)
    assert found.steps == patience
    assert levenberg_marquardt(Problem(lambda x: x**2), tensor(1.0), 12, least_gain=0.5, patience=1).steps == 12


def test_nothing_is_left_to_do_at_a_loss_of_0():
    problem = Problem(lambda x: x)
    assert levenberg_marquardt(problem, tensor(0.0), 10).steps == problem.formed == 0
