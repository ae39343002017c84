"""Closed-form starts: the best truncation, no error on average, and growth in rank that changes nothing."""

import numpy as np
import pytest
import torch

from contracts.cases import fnn
from lorascope.construct.refine.family import families
from lorascope.construct.refine.point import forward
from lorascope.construct.refine.starts import closed_form, moments_of, starts, widened
from reference.cases import network
from reference.lowrank import assert_best
from reference.networks import relu_network


def correlated(rng, count, width, rank=None):
    mix = rng.standard_normal((width, width if rank is None else rank))
    return rng.standard_normal((count, mix.shape[1])) @ mix.T + rng.standard_normal(width)


def problem(width=4, depth=2, target_depth=1, rank=1, narrow=None, inputs=None, seed=0):
    frozen, target = fnn(width, depth, target_depth, seed=seed)
    if narrow:
        _, target = fnn(narrow, depth, target_depth, seed=seed)
    size = depth // target_depth
    partition = tuple(tuple(range(size * index, size * (index + 1))) for index in range(target_depth))
    ranks = {f"layers.{layer}.weight": rank for layer in range(depth)}
    rng = np.random.default_rng(seed)
    inputs = torch.from_numpy(correlated(rng, 200, narrow or width) if inputs is None else inputs)
    moments = moments_of(target, inputs, standard=False)
    return frozen, target, families(frozen, target, ranks, partition), moments, inputs


def arrays(model):
    return [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in model.linears]


def test_moments_are_those_of_the_targets_activations():
    _, target, _, moments, inputs = problem(depth=4, target_depth=2)
    hidden = inputs.numpy()
    for (weight, bias), mean, covariance in zip(arrays(target), moments.means, moments.covariances, strict=True):
        np.testing.assert_allclose(mean, hidden.mean(0), atol=1e-12)
        np.testing.assert_allclose(covariance, np.cov(hidden.T, bias=True), atol=1e-12)
        hidden = relu_network(hidden, [weight], [bias])


def test_moments_of_standard_inputs_are_known_and_a_ridge_adds_its_share():
    _, target, _, plain, inputs = problem()
    known = moments_of(target, inputs, standard=True)
    assert torch.equal(known.covariances[0], torch.eye(4, dtype=torch.float64))
    assert not known.means[0].any()
    ridged = moments_of(target, inputs, standard=False, ridge=0.5)
    added = (ridged.covariances[0] - plain.covariances[0]) / plain.covariances[0].diagonal().mean()
    torch.testing.assert_close(added, 0.5 * torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
@pytest.mark.parametrize("narrow", [None, 3])
@pytest.mark.parametrize("degenerate", [False, True])
def test_a_linearised_group_is_the_best_truncation_and_right_on_average(rank, narrow, degenerate):
    width = narrow or 4
    rows = correlated(np.random.default_rng(1), 200, width, 2) if degenerate else None
    frozen, target, given, moments, _ = problem(rank=rank, depth=4, target_depth=2, narrow=narrow, inputs=rows)
    family = given[0]
    found = closed_form(family, frozen, target, moments)
    for index, (weight, bias) in enumerate(arrays(target)):
        a, b = found.right[index].numpy(), found.left[index].numpy()
        assert a.shape[0] == family.ranks[index]
        error, mean = weight - family.weights[index].numpy(), moments.means[index].numpy()
        assert_best(b, a, error, family.ranks[index], moments.covariances[index].numpy())
        left_over = (error - b @ a) @ mean + bias - found.biases[index].numpy()
        assert np.abs(left_over).max() <= 1e-12


def test_no_other_low_rank_correction_beats_it_before_the_relu():
    frozen, target, given, moments, inputs = problem(rank=1)
    found = closed_form(given[0], frozen, target, moments)
    (weight, bias), rows = arrays(target)[0], inputs.numpy()
    rng = np.random.default_rng(0)

    def square(a, b, shift):
        correction = given[0].weights[0].numpy() + b @ a
        return np.square(rows @ (correction - weight).T + shift - bias).sum(1).mean()

    a, b, shift = (part[0].numpy() for part in (found.right, found.left, found.biases))
    least = square(a, b, shift)
    for _ in range(300):
        size = 10.0 ** rng.uniform(-4, 0)
        near = [part + size * rng.standard_normal(part.shape) for part in (a, b, shift)]
        assert square(*near) >= least
    assert square(a, 0.99 * b, shift) > least * (1 + 1e-6)  # the measure tells them apart


def test_a_kept_group_starts_as_the_frozen_layers():
    frozen, target, given, moments, inputs = problem(rank=1)
    found = closed_form(given[1], frozen, target, moments)
    outputs = forward(found.weights(given[1]), found.biases, inputs)
    torch.testing.assert_close(outputs, frozen(inputs).detach())


@pytest.mark.parametrize("kept", [0, 1])
def test_starts_hold_the_truncation_noise_around_it_and_the_frozen_network(kept, generator):
    frozen, target, given, moments, inputs = problem(rank=1)
    family, count = given[kept], 10
    found = starts(family, frozen, target, moments, count, generator)
    base = closed_form(family, frozen, target, moments)
    assert {len(part) for part in found.parts()} == {count}
    assert all(
        torch.equal(one, other)
        for one, other in zip(found.member(0).weights(family), base.weights(family), strict=True)
    )
    outputs = forward(found.weights(family), found.biases, inputs)
    if kept:
        torch.testing.assert_close(outputs[0], frozen(inputs).detach())
        assert (found.biases[0] >= base.biases[0]).all()  # hidden units as active as before, or more
        assert torch.equal(found.biases[1], base.biases[1].expand(count, -1))
    else:
        last = found.biases[0][count // 2 :]
        assert torch.equal(last, target.linears[0].bias.detach().expand_as(last))
        away = [float((weight - base.weights(family)[0]).norm()) for weight in found.weights(family)[0][: count // 2]]
        assert away[0] == 0 < away[1] < away[-1] < 2
    frozen_ones = found.weights(family)[0][count // 2 :]
    assert torch.equal(frozen_ones, family.weights[0].expand_as(frozen_ones))
    assert all((rights.std(0) > 0).all() for rights in (part[count // 2 :] for part in found.right))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_starts_and_rank_0(count, generator):
    frozen, target, given, moments, _ = problem(rank=0)
    for family in given:
        found = starts(family, frozen, target, moments, count, generator)
        assert {len(part) for part in found.parts()} == {count}


def test_more_rank_keeps_the_function_and_gives_new_directions_a_start(generator):
    frozen, target, lower, moments, inputs = problem(rank=1)
    higher = problem(rank=3)[2]
    for small, large in zip(lower, higher, strict=True):
        point = starts(small, frozen, target, moments, 6, generator).member(3)
        grown = widened(point, large, generator)
        before, after = (
            forward(one.weights(family), one.biases, inputs) for one, family in ((point, small), (grown, large))
        )
        torch.testing.assert_close(after, before, rtol=1e-13, atol=1e-13)
        assert tuple(len(a) for a in grown.right) == tuple(b.shape[1] for b in grown.left) == large.ranks
        assert all(bool(a.any(1).all()) for a in grown.right)
        same = widened(point, small, generator)
        assert all(torch.equal(one, other) for one, other in zip(same.parts(), point.parts(), strict=True))


def test_a_target_without_biases_counts_as_one_of_biases_0(generator):
    frozen, target = fnn(3, 2, 1)
    plain = network([layer.weight.detach().numpy() for layer in target.linears])
    zero = network([layer.weight.detach().numpy() for layer in target.linears], [np.zeros(3)])
    rows = torch.from_numpy(correlated(np.random.default_rng(0), 50, 3))
    family = families(frozen, plain, dict.fromkeys(("layers.0.weight", "layers.1.weight"), 1), ((0, 1),))[0]
    found = [closed_form(family, frozen, one, moments_of(one, rows, standard=False)) for one in (plain, zero)]
    assert torch.equal(found[0].biases[0], found[1].biases[0])
    assert not starts(family, frozen, plain, moments_of(plain, rows, standard=False), 4, generator).biases[0][2:].any()
