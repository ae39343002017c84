"""Linear networks: the least mean square there is, for any inputs and depth."""

import math

import numpy as np
import pytest
import torch

from contracts.cases import fnn
from lorascope import construct
from lorascope.adaptation import Ball
from lorascope.construct.refine import input_source, refine_linear
from reference.cases import network
from reference.refinement import assert_least, least_square


def pair(width, depth, target_depth=1, narrow=None, biases=True, seed=0):
    frozen, _ = fnn(width, depth, target_depth, "identity", seed)
    _, target = fnn(narrow or width, depth, target_depth, "identity", seed)
    return (frozen, target) if biases else (without_biases(frozen), without_biases(target))


def without_biases(model):
    return network([layer.weight.detach().numpy() for layer in model.linears], None, "identity")


def inputs(kind, width, count=60, seed=0):
    rng = np.random.default_rng(seed)
    plain = rng.standard_normal((count, width))
    mix = rng.standard_normal((width, width)) @ np.diag(2.0 ** -np.arange(width))
    shifts = {"shifted": 3.0, "correlated": 0.0, "rank-deficient": 1.0, "all the same": 1.0}
    rows = shifts[kind] * rng.standard_normal(width) + (plain @ mix if kind != "all the same" else 0 * plain)
    if kind == "rank-deficient":
        rows = rows @ np.diag([1.0] * (width // 2) + [0.0] * (width - width // 2)) @ mix
    return torch.from_numpy(rows)


KINDS = ("correlated", "shifted", "rank-deficient", "all the same")


def padded(rows, model):
    return torch.nn.functional.pad(rows, (0, model.width - rows.shape[1]))


def square(model, target, rows):
    """Mean over the rows of the squared norm of the error, the outputs a narrow target lacks included."""
    with torch.no_grad():
        wide = padded(rows, model)
        return float((model(wide) - padded(target(rows), model)).square().sum(1).mean())


def assert_optimal(found, frozen, target, rows, rank, tolerance=1e-8):
    """``found`` attains the oracle's least: reduced-rank regression of what the frozen product lacks on the inputs."""
    plain = without_biases(frozen)
    with torch.no_grad():
        lacking = (padded(target(rows), frozen) - plain(padded(rows, frozen))).numpy()
    assert_least(square(found.model, target, rows), lacking, rows.numpy(), rank, frozen.has_bias, tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize(
    ("width", "depth", "rank", "narrow"),
    [(5, 1, 2, None), (5, 2, 1, None), (6, 4, 1, None), (5, 2, 1, 3), (3, 2, 0, None)],
)
def test_the_least_mean_square_on_given_samples_is_attained(kind, biases, width, depth, rank, narrow):
    frozen, target = pair(width, depth, narrow=narrow, biases=biases)
    rows = inputs(kind, narrow or width)
    found = construct.refined(frozen, target, rank, samples=rows)
    assert_optimal(found, frozen, target, rows, depth * rank)
    plain = construct.stable(frozen, target, rank, samples=rows)
    assert square(found.model, target, rows) <= square(plain.model, target, rows) * (1 + 1e-9) + 1e-25


def test_the_oracle_tells_a_worse_and_an_impossible_result_apart():
    frozen, target = pair(5, 2)
    rows = inputs("shifted", 5)
    with torch.no_grad():
        lacking = (target(rows) - without_biases(frozen)(rows)).numpy()
    least = least_square(lacking, rows.numpy(), 2, biases=True)
    assert_least(least, lacking, rows.numpy(), 2, biases=True)
    for wrong in (1.01 * least, 0.99 * least, 0.0, math.nan):
        with pytest.raises(AssertionError):
            assert_least(wrong, lacking, rows.numpy(), 2, biases=True)
    with pytest.raises(AssertionError):
        assert_optimal(construct.stable(frozen, target, 1), frozen, target, rows, 2)


def test_the_oracle_is_not_undercut_by_random_corrections():
    rng = np.random.default_rng(0)
    rows = inputs("shifted", 4).numpy()
    wanted = rows @ rng.standard_normal((4, 4)) + rng.standard_normal(4)
    for biases in (True, False):
        least = least_square(wanted, rows, 2, biases)
        for _ in range(200):
            right = rng.standard_normal((2, 4))
            seen = rows @ right.T
            seen = np.concatenate([seen, np.ones((len(seen), 1))], 1) if biases else seen
            left = np.linalg.lstsq(seen, wanted, rcond=None)[0]
            assert np.square(wanted - seen @ left).sum() / len(rows) >= least


def test_a_target_with_biases_is_met_through_the_mean_where_the_frozen_model_has_none():
    _, target = pair(5, 2)
    frozen = without_biases(pair(5, 2)[0])
    for kind in KINDS:
        rows = inputs(kind, 5)
        found = construct.refined(frozen, target, 1, samples=rows)
        assert_optimal(found, frozen, target, rows, 2)
        assert any("target has biases" in note for note in found.certificate.conditions)


def test_without_samples_it_is_the_optimum_for_standard_inputs():
    frozen, target = pair(5, 2)
    found, plain = construct.refined(frozen, target, 1), construct.stable(frozen, target, 1)
    product = lambda model: np.linalg.multi_dot([layer.weight.detach().numpy() for layer in model.linears][::-1])  # noqa: E731
    goal = target.linears[0].weight.detach().numpy()
    values = np.linalg.svd(goal - product(frozen), compute_uv=False)
    for one in (found, plain):
        assert np.linalg.norm(goal - product(one.model)) ** 2 == pytest.approx(np.square(values[2:]).sum(), rel=1e-9)
    rows = torch.zeros(1, 5).double()  # the mean error is the error at the mean
    torch.testing.assert_close(found.model(rows), target(rows))


def test_a_sampler_counts_as_the_samples_it_gives():
    frozen, target = pair(4, 2)
    rows = inputs("shifted", 4)
    by_samples = construct.refined(frozen, target, 1, samples=rows)
    by_sampler = construct.refined(frozen, target, 1, sampler=lambda _: rows)
    for one, other in zip(by_samples.model.parameters(), by_sampler.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_float32_models_lose_no_more_than_their_rounding():
    frozen, target = (model.float() for model in pair(5, 2))
    rows = inputs("shifted", 5)
    found = construct.refined(frozen, target, 1, samples=rows)
    assert found.model.linears[0].weight.dtype == torch.float32
    found.model.double()
    assert_optimal(found, frozen.double(), target.double(), rows, 2, 1e-4)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("biases", [True, False])
def test_few_samples_are_fitted_on_their_span_alone_and_it_is_said(count, biases):
    frozen, target = pair(5, 2, biases=biases)
    rows = inputs("shifted", 5, count)
    found = construct.refined(frozen, target, 2, samples=rows)
    assert any(f"few samples: {count} for 5 inputs" in note for note in found.certificate.conditions)
    assert_optimal(found, frozen, target, rows, 4)
    fresh = inputs("correlated", 5, 500, seed=1)
    assert np.isfinite(square(found.model, target, fresh))
    enough = construct.refined(frozen, target, 2, samples=inputs("shifted", 5, 6))
    assert not any("few samples" in note for note in enough.certificate.conditions)


@pytest.mark.parametrize("kind", KINDS)
def test_more_rank_is_never_worse_and_the_last_is_exact(kind):
    frozen, target = pair(4, 2)
    rows = inputs(kind, 4)
    path = construct.refined_path(frozen, target, [0, 1, 2], samples=rows)
    found = [square(one.model, target, rows) for one in path]
    assert found[0] * (1 + 1e-9) >= found[1]
    assert found[1] + 1e-20 >= found[2] <= 1e-20
    assert [one.certificate.exact for one in path] == [False, False, True]


def test_ranks_differ_by_layer(generator):
    frozen, target = pair(3, 2)
    source = input_source((3,), inputs("shifted", 3), None, generator, torch.device("cpu"), hold_out=False)
    ranks = {"layers.0.weight": 1, "layers.1.weight": 0}
    found = refine_linear(frozen, target, ranks, source, Ball(1.0))
    assert {name: adapter.rank for name, adapter in found.adapters.items()} == {"layers.0.weight": 1}
    assert_optimal(found, frozen, target, inputs("shifted", 3), 1)
