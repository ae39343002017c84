"""Linear relaxation against dense grids, and how bounds change when networks and domains do."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lorascope as ls
from adaptation.networks import problem
from lorascope.adaptation import Region, bound_networks
from lorascope.adaptation.relaxation import Layer, apart, lipschitz, trace_of
from lorascope.errors import ShapeError, SpecError
from lorascope.models import FNN
from reference.cases import network, seeds, tensors


def grid_of(low, high, points):
    axes = [np.linspace(a, b, points) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def values_of(layers, points):
    """Before every ReLU, and the outputs."""
    found = []
    for layer in layers:
        found.append(points @ layer.weight.numpy().T + layer.bias.numpy())
        points = np.maximum(found[-1], 0)
    return found, points


def assert_covers_grid(bound, first, second, grid):
    worst = np.linalg.norm(values_of(first, grid)[1] - values_of(second, grid)[1], axis=1).max()
    assert worst <= bound, f"a point of the grid has error {worst}, the bound is {bound}"
    return worst


def box(low, high):
    low, high = tensors([low, high])
    return Region(low, high, (low + high) / 2, float((high - low).norm() / 2))


def layers_of(rng, inp, width, out, depth):
    sizes = [inp, *[width] * (depth - 1), out]
    return [Layer(*tensors([rng.standard_normal((b, a)), rng.standard_normal(b)])) for a, b in pairwise(sizes)]


cases = {"seed": seeds, "inp": st.integers(1, 2), "width": st.integers(1, 5), "size": st.sampled_from([0.0, 0.3, 2.0])}


@settings(max_examples=30)
@given(**cases, first=st.integers(1, 4), second=st.integers(1, 4))
def test_no_point_of_a_grid_leaves_ranges_or_bound(seed, inp, width, size, first, second):
    rng = np.random.default_rng(seed)
    ours, theirs = (layers_of(rng, inp, width, 2, depth) for depth in (first, second))
    low = rng.standard_normal(inp)
    high = low + size * rng.random(inp)
    region, grid = box(low, high), grid_of(low, high, 400 if inp == 1 else 40)
    traces = trace_of(ours, region), trace_of(theirs, region)
    for layers, trace in zip((ours, theirs), traces, strict=True):
        before, outputs = values_of(layers, grid)
        for (least, most), found in zip(trace.ranges, before, strict=True):
            assert (found >= least.numpy()).all()
            assert (found <= most.numpy()).all()
        image = trace.image
        assert (np.linalg.norm(outputs - image.centre.numpy(), axis=1) <= image.radius + 1e-9).all()
    bound = apart(*traces)
    assert_covers_grid(bound, ours, theirs, grid)
    if size == 0.0:  # a point: nothing is relaxed
        assert bound == pytest.approx(assert_covers_grid(bound, ours, theirs, grid), abs=1e-9)


@settings(max_examples=30)
@given(**cases, depth=st.integers(1, 4))
def test_no_two_points_of_a_grid_move_apart_by_more_than_the_lipschitz_constants(seed, inp, width, size, depth):
    rng = np.random.default_rng(seed)
    layers = layers_of(rng, inp, width, 2, depth)
    low = rng.standard_normal(inp)
    high = low + size * rng.random(inp)
    grid = grid_of(low, high, 200 if inp == 1 else 15)
    outputs = values_of(layers, grid)[1]
    known = lipschitz(layers, trace_of(layers, box(low, high)).ranges)
    anywhere = lipschitz(layers)
    assert known <= anywhere * (1 + 1e-9)
    assert anywhere <= np.prod([np.linalg.norm(layer.weight.numpy(), 2) for layer in layers]) * (1 + 1e-9)
    step = rng.permutation(len(grid))
    far, moved = (np.linalg.norm(values - values[step], axis=1) for values in (grid, outputs))
    assert (moved <= known * far + 1e-9).all()


def test_affine_networks_are_bounded_to_the_digit():
    """All units on: the largest difference is at a corner of the box."""
    rng = np.random.default_rng(0)
    ours, theirs = ([Layer(layer.weight, layer.bias + 50) for layer in layers_of(rng, 2, 3, 1, 1)] for _ in range(2))
    region = box([-1.0, 0.0], [1.0, 2.0])
    bound = apart(trace_of(ours, region), trace_of(theirs, region))
    assert bound == pytest.approx(assert_covers_grid(bound, ours, theirs, grid_of([-1.0, 0.0], [1.0, 2.0], 2)))
    stacked = [layers_of(rng, 2, 2, 2, 1)[0], layers_of(rng, 2, 2, 2, 1)[0]]
    stacked[0] = Layer(stacked[0].weight, stacked[0].bias + 50)
    known = lipschitz(stacked, trace_of(stacked, region).ranges)
    assert known <= float(torch.linalg.matrix_norm(stacked[1].weight @ stacked[0].weight, 2)) * (1 + 1e-9)


def test_one_unit_that_switches_is_bounded_by_its_chord():
    """|x| = ReLU(x) + ReLU(-x) against 0 on [-1, 1]: the chords give 1, the intervals alone 2."""
    ours = [Layer(*tensors([[[1.0], [-1.0]], [0.0, 0.0]])), Layer(*tensors([[[1.0, 1.0]], [0.0]]))]
    zero = [Layer(*tensors([[[0.0]], [0.0]]))]
    region = box([-1.0], [1.0])
    assert apart(trace_of(ours, region), trace_of(zero, region)) == pytest.approx(1.0)


def test_the_grid_rejects_a_bound_that_is_too_small():
    rng = np.random.default_rng(1)
    ours, theirs = layers_of(rng, 2, 4, 2, 3), layers_of(rng, 2, 4, 2, 2)
    grid = grid_of([-1.0, -1.0], [1.0, 1.0], 60)
    worst = assert_covers_grid(np.inf, ours, theirs, grid)
    with pytest.raises(AssertionError, match="a point of the grid"):
        assert_covers_grid(0.99 * worst, ours, theirs, grid)


@pytest.mark.parametrize("seed", range(12))
def test_scaling_inputs_or_outputs_scales_bounds(seed):
    """Widening the domain by s and narrowing the first weights by s is no change; a last layer s times as large is."""
    case = problem(seed)
    plain = bound_networks(case.model, case.target, case.domain, case.partition)
    scaled = []
    for net in (case.model, case.target):
        weights, biases = ([value.detach().clone() for value in values] for values in parameters(net))
        weights[0] /= 4
        weights[-1] *= 8
        biases[-1] *= 8
        scaled.append(FNN.from_weights(weights, biases))
    domain = case.domain
    wide = ls.Ball(4 * domain.radius) if isinstance(domain, ls.Ball) else ls.Box(4 * domain.low, 4 * domain.high)
    found = bound_networks(*scaled, wide, case.partition)
    assert found.error == pytest.approx(8 * plain.error, rel=1e-6, abs=1e-9)
    assert found.inactive == plain.inactive


def parameters(net):
    return [layer.weight for layer in net.linears], [layer.bias for layer in net.linears]


@pytest.mark.parametrize("seed", range(12))
def test_a_larger_domain_has_no_smaller_bound(seed):
    """Up to what choosing other lines for the relaxation may gain."""
    case = problem(seed)
    domain, before = case.domain, 0.0
    for factor in (0.25, 0.5, 1.0, 2.0):
        if isinstance(domain, ls.Ball):
            place = ls.Ball(factor * domain.radius)
        else:
            middle, half = (domain.low + domain.high) / 2, factor * (domain.high - domain.low) / 2
            place = ls.Box(middle - half, middle + half)
        bound = bound_networks(case.model, case.target, place, case.partition).error
        assert bound >= 0.8 * before - 1e-9
        before = bound


def test_rotating_the_inputs_of_a_ball_rotates_nothing_but_them():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    weights, biases = [rng.standard_normal((4, 4)) for _ in range(3)], [rng.standard_normal(4) for _ in range(3)]
    pair = network(weights[:2], biases[:2]), network(weights[2:], biases[2:])
    turned = network([weights[0] @ turn, weights[1]], biases[:2]), network([weights[2] @ turn], biases[2:])
    plain, found = (bound_networks(*nets, ls.Ball(2.0)).error for nets in (pair, turned))
    assert found == pytest.approx(plain, rel=1e-2)  # boxes around the ball are not rotated with it


def test_networks_of_one_function_in_two_forms():
    """Kept or linearised, a network against itself is bounded by rounding where layers match, by more where not."""
    net = FNN(4, 3, generator=torch.Generator().manual_seed(0))
    matched = bound_networks(net, net, ls.Ball(3.0), ((0,), (1,), (2,)))
    assert matched.error < 1e-12
    assert matched.inactive == ()
    assert bound_networks(net, net, ls.Ball(3.0)).error < 1e-12


def test_targets_deeper_than_the_model_and_models_of_several_widths():
    rng = np.random.default_rng(0)
    wide = network(
        [rng.standard_normal((5, 3)), rng.standard_normal((4, 5))], [rng.standard_normal(5), rng.standard_normal(4)]
    )
    deep = network([rng.standard_normal((2, 2)) for _ in range(3)], [rng.standard_normal(2) for _ in range(3)])
    samples = torch.from_numpy(rng.uniform(-0.5, 0.5, (30, 2)))
    bounds = bound_networks(wide, deep, ls.Ball(1.0), samples=samples)
    padded = torch.nn.functional.pad(samples, (0, 1))
    error = (wide(padded) - torch.nn.functional.pad(deep(samples), (0, 2))).norm(dim=1).detach()
    assert bounds.inactive == (0,)
    assert float(error.max()) <= bounds.error
    assert float(error.square().mean().sqrt()) <= bounds.expected <= 1.01 * float(error.square().mean().sqrt())


def test_identity_networks_are_compared_by_their_products():
    first = network([np.diag([1.0, 2.0]), np.diag([3.0, 1.0])], activation="identity")
    second = network([np.diag([1.0, 2.0])], activation="identity")
    assert bound_networks(first, second, ls.Ball(2.0)).error == pytest.approx(4.0)


def test_what_cannot_be_compared_is_quoted():
    one, two = FNN(3, 2), FNN(2, 1)
    with pytest.raises(ShapeError, match="at most the model's 2 inputs and 2 outputs, got 3 and 3"):
        bound_networks(two, one, ls.Ball(1.0))
    with pytest.raises(ShapeError, match="share their activation, got relu and identity"):
        bound_networks(one, FNN(3, 1, "identity"), ls.Ball(1.0))
    for partition in (((0,),), ((0,), (1,)), ((1, 0),)):
        with pytest.raises(ShapeError, match="1 groups of consecutive layers, together 0 to 1"):
            bound_networks(one, two, ls.Ball(1.0), partition)
    with pytest.raises(ShapeError, match="is empty or has fewer outputs"):
        bound_networks(one, FNN(3, 2), ls.Ball(1.0), ((), (0, 1)))
    with pytest.raises(ShapeError, match=r"samples must be \(number, 2\), got \(4, 5\)"):
        bound_networks(one, two, ls.Ball(1.0), samples=torch.zeros(4, 5).double())
    for samples in (torch.zeros(0, 3), torch.full((1, 3), torch.nan)):
        with pytest.raises(SpecError, match="samples must be finite and at least one"):
            bound_networks(one, two, ls.Ball(1.0), samples=samples.double())
    with torch.no_grad():
        one.linears[0].weight[0, 0] = torch.inf
    with pytest.raises(SpecError, match="model must have finite weights"):
        bound_networks(one, two, ls.Ball(1.0))
