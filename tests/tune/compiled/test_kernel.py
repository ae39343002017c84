"""The kernel against torch's engine, for every network and every way of training that it takes."""

import ctypes
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorascope import tune
from lorascope.models import FNN
from lorascope.optim import Workspace
from lorascope.tune import runs
from lorascope.tune.compiled import CompiledChunk, CompiledOutputs, Rows, build, load
from lorascope.tune.keywords import How
from lorascope.tune.layout import Layout
from lorascope.tune.settings import Setting
from tune.test_ensemble import F32, F64, fnn_pair

pytestmark = pytest.mark.skipif(load().library is None, reason=load().why)


def compiled(frozen, chosen, library=None, **how):
    library = library or load().library
    return CompiledChunk(library, frozen, Layout.of(chosen), chosen, list(range(len(chosen))), 0, Rows(), **how)


def by_torch(frozen, chosen):
    return runs._chunk(frozen, chosen, list(range(len(chosen))), How(), 0, Workspace())[0]


def network(widths, activation="relu", bias=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(out, inp, generator=generator) * inp**-0.5 for inp, out in pairwise(widths)]
    biases = [torch.rand(out, generator=generator) - 0.3 for out in widths[1:]]
    return FNN.from_weights(weights, biases if bias else None, activation)


def batches(widths, rows, count, seed=0, held_out=None):
    generator = torch.Generator().manual_seed(seed + 1)
    sizes = [held_out or rows] + [rows] * count
    return [
        (torch.randn(size, widths[0], generator=generator), torch.randn(size, widths[-1], generator=generator).relu())
        for size in sizes
    ]


@st.composite
def problems(draw):
    """A network of any widths, and what is trained of each layer."""
    depth, seed = draw(st.integers(1, 4)), draw(st.integers(0, 2**31))
    widths = [draw(st.integers(1, 20)) for _ in range(depth + 1)]
    bias = draw(st.booleans())
    activation = draw(st.sampled_from(["relu", "identity"]))
    ways = [draw(st.sampled_from(["adapted", "whole", "fixed"])) for _ in range(depth)]
    shifted = [bias and draw(st.booleans()) for _ in range(depth)]
    adapted = [f"layers.{index}.weight" for index, way in enumerate(ways) if way == "adapted"]
    chosen = [
        {  # a Setting's keywords: checks of its annotations draw at random, which a strategy may not
            "lr": draw(st.sampled_from([1e-3, 1e-4])),
            "weight_decay": draw(st.sampled_from([0.0, 0.1])),
            "seed": member,
            "ranks": {name: draw(st.integers(1, 20)) for name in adapted},
            "full": tuple(f"layers.{index}.weight" for index, way in enumerate(ways) if way == "whole"),
            "biases": tuple(f"layers.{index}.bias" for index, on in enumerate(shifted) if on),
        }
        for member in range(draw(st.integers(1, 3)))
    ]
    return (widths, activation, bias, seed), chosen, draw(st.integers(1, 150)), draw(st.integers(1, 150))


def assert_alike(one, other, tolerance):
    torch.testing.assert_close(one.best, other.best, rtol=tolerance, atol=tolerance)
    for value, wanted in zip(one.kept, other.kept, strict=True):
        torch.testing.assert_close(value, wanted, rtol=tolerance, atol=tolerance)


@given(problems())
@settings(max_examples=60)
def test_any_layers_and_members_are_as_by_torch(problem):
    (widths, activation, bias, seed), keywords, rows, held_out_rows = problem
    chosen = [Setting(**one) for one in keywords]
    frozen = network(widths, activation, bias, seed)
    if not Layout.of(chosen).names:
        return
    held_out, *block = batches(widths, rows, 6, seed, held_out_rows)
    one, other = compiled(frozen, chosen), by_torch(frozen, chosen)
    for start, stop, checked in ((0, 4, [0, 1, 3]), (4, 6, [])):
        seen, wanted = (c.advance(block[start:stop], start, checked, held_out) for c in (one, other))
        torch.testing.assert_close(seen, wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(one.finish(held_out), other.finish(held_out), rtol=1e-4, atol=1e-6)
    assert_alike(one, other, 1e-5)


def grid(depth, ranks=(1, 5, 16), rates=(1e-2, 1e-3), decays=(0.0, 1e-2)):
    names, shifts = [f"layers.{i}.weight" for i in range(depth)], tuple(f"layers.{i}.bias" for i in range(depth))
    return [
        Setting(lr, decay, rank, dict.fromkeys(names, rank), biases=shifts)
        for rank in ranks
        for lr in rates
        for decay in decays
    ]


def test_fifty_steps_are_as_by_torch_and_at_a_high_rate_most_of_them():
    frozen, chosen = network([16] * 3), grid(2)
    held_out, *block = batches([16, 16], 256, 50)
    one, other = compiled(frozen, chosen), by_torch(frozen, chosen)
    seen, wanted = (c.advance(block, 0, range(50), held_out) for c in (one, other))
    gaps = (seen - wanted).abs().amax(0) / wanted.amax(0)
    slow = torch.tensor([setting.lr < 1e-2 for setting in chosen])
    assert gaps[slow].max() < 1e-5
    assert gaps.median() < 1e-5


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """The kernel with vectors of 8 and of 16 floats."""
    if "avx512f" not in load().why:
        pytest.skip("one way to build alone runs here")
    folder, compiler = tmp_path_factory.mktemp("libraries"), build._compiler()
    paths = [build._build(compiler, (*build.FLAGS, *flags), folder, "k") for flags in build.VECTORS.values()]
    assert len(set(paths)) == 2
    return [ctypes.CDLL(str(path)) for path in paths]


@pytest.mark.parametrize("objective", ["mse", "classification", "binary"])
@pytest.mark.parametrize("widths", [[16] * 5, [3, 20, 8], [64, 40, 64]])
def test_bits_are_the_same_for_every_vector_width(widths, objective, libraries):
    frozen, chosen = network(widths), grid(len(widths) - 1, ranks=(1, 7, 20))
    held_out, *block = batches(widths, 100, 200, held_out=77)
    found = []
    for library in libraries:
        chunk = compiled(frozen, chosen, library, objective=objective)
        found.append([chunk.advance(block, 0, range(0, 200, 3), held_out), *chunk.state().values()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    # which says something, since a last bit grows: another order of the members' inputs is seen
    turned = [tuple(side.flip(0) for side in pair) for pair in block]
    chunk = compiled(frozen, chosen, objective=objective)
    assert not torch.equal(chunk.advance(turned, 0, range(0, 200, 3), held_out), found[0][0])


def loss_of(objective, outputs, targets):
    """As one would write it."""
    if objective == "mse":
        return ((outputs - targets) ** 2).mean()
    if objective == "binary":
        outputs, targets = (values.unflatten(1, (2, -1)).sum(-1) for values in (outputs, targets))
    found, wanted = outputs.log_softmax(1), targets.log_softmax(1)
    return (wanted.exp() * (wanted - found)).sum(1).mean()


def plainly(frozen, setting, start, block, held_out, objective, optimizer, ratio):
    """One member in float64, by autograd and torch's own optimiser: the parameters and the losses before each step."""
    weights = [layer.weight.detach().double() for layer in frozen.linears]
    values = [value[0].double().requires_grad_() for value in start]
    depth = frozen.depth
    right, left, shifts = values[:depth], values[depth : 2 * depth], values[2 * depth :]

    def loss(batch):
        hidden = batch[0].double()
        for weight, a, b, shift in zip(weights, right, left, shifts, strict=True):
            hidden = torch.relu(hidden @ (weight + b @ a).T + shift)
        return loss_of(objective, hidden, batch[1].double())

    groups = [{"params": [*right, *shifts]}, {"params": left, "lr": setting.lr * ratio}]
    stepper = optimizer(groups, lr=setting.lr, weight_decay=setting.weight_decay)
    losses = []
    for batch in block:
        losses.append(float(loss(held_out).detach()))
        stepper.zero_grad()
        loss(batch).backward()
        stepper.step()
    return values, losses


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("objective", ["mse", "classification", "binary"])
@pytest.mark.parametrize(("widths", "scale"), [([4, 16, 6], 1.0), ([16, 16, 16], 30.0), ([3, 5, 2], 1e-3)])
def test_objectives_and_optimisers_are_the_plain_loop(widths, scale, objective, optimizer):
    frozen = network(widths)
    held_out, *block = [(x, scale * y) for x, y in batches(widths, 70, 30, held_out=90)]
    ratio = 4.0
    chosen = [replace(one, lr_ratio=ratio) for one in grid(2, ranks=(2,), rates=(1e-3,), decays=(0.0, 0.3))]
    chunk = compiled(
        frozen,
        chosen,
        objective=objective,
        decoupled=optimizer is torch.optim.AdamW,
    )
    start = chunk.kept
    seen = chunk.advance(block, 0, range(30), held_out)
    for index, setting in enumerate(chosen):
        mine = [value[index : index + 1] for value in start]
        values, losses = plainly(frozen, setting, mine, block, held_out, objective, optimizer, ratio)
        assert seen[:, index].tolist() == pytest.approx(losses, rel=2e-5, abs=1e-6)
        for value, wanted in zip(chunk._views(chunk._state[0]), values, strict=True):
            torch.testing.assert_close(value[index].double(), wanted.detach(), rtol=1e-5, atol=2e-5)


def test_a_divergence_is_zero_where_the_classes_agree_and_not_kept_where_it_is_no_number():
    same = torch.randn(70, 4, generator=torch.Generator().manual_seed(0))
    frozen = FNN.from_weights([torch.eye(4)], [torch.zeros(4)], "identity")
    likes = {"classification": same + 3.0, "binary": same[:, [1, 0, 3, 2]]}  # other outputs of the same classes
    for objective, like in likes.items():
        chunk = compiled(frozen, grid(1, ranks=(1,)), objective=objective)
        near, far, lost = (chunk.finish((values, like)) for values in (same, same * 200, same * torch.inf))
        assert near.abs().max() < 1e-12
        assert far.min() > 1
        assert not lost.isfinite().any()
        assert torch.equal(chunk.best, near)


def test_a_member_has_the_same_bits_in_any_company_and_after_a_break():
    frozen, chosen = network([5, 16, 9]), grid(2)
    held_out, *block = batches([5, 9], 70, 20)
    whole = compiled(frozen, chosen)
    seen = whole.advance(block, 0, range(20), held_out)
    for index in (0, 5, 11):
        alone = compiled(frozen, chosen[index : index + 1])
        assert torch.equal(alone.advance(block, 0, range(20), held_out)[:, 0], seen[:, index])
    first, second = compiled(frozen, chosen), compiled(frozen, chosen)
    early = first.advance(block[:7], 0, range(7), held_out)
    state = first.state()
    first.advance(block[7:9], 7, [], held_out)  # what was handed out is a copy
    second.restore(state)
    late = second.advance(block[7:], 7, range(7, 20), held_out)
    assert torch.equal(torch.cat([early, late]), seen)
    assert torch.equal(second.finish(held_out), whole.finish(held_out))
    assert torch.equal(second.best, whole.best)
    assert all(torch.equal(one, other) for one, other in zip(second.kept, whole.kept, strict=True))


def test_padding_stays_zero():
    frozen, chosen = network([3, 5, 2]), grid(2, ranks=(1, 2))
    held_out, *block = batches([3, 2], 30, 40)
    chunk = compiled(frozen, chosen)
    chunk.advance(block, 0, [], held_out)
    before = chunk._state.clone()
    for part in chunk._state:
        for view in chunk._views(part):
            view.zero_()
    assert not chunk._state.any()
    assert before.any()


def test_what_diverges_is_never_kept():
    frozen = network([4] * 3)
    held_out, *block = batches([4, 4], 20, 30)
    chosen = grid(2, ranks=(2,), rates=(1e30, 1e-3), decays=(0.0,))
    one = compiled(frozen, chosen)
    seen = torch.cat([one.advance(block, 0, range(30), held_out), one.finish(held_out)[None]])
    assert not seen[-1, 0].isfinite()
    assert torch.equal(one.best, torch.where(seen.isfinite(), seen, torch.inf).amin(0))
    assert all(value.isfinite().all() for value in one.kept)


def test_subnormal_numbers_and_the_callers_mode_make_no_difference():
    frozen, chosen = network([4] * 2), grid(1, ranks=(2,))
    held_out, *block = batches([4, 4], 20, 30)
    block = [(x * 1e-20, y * 1e-20) for x, y in block]
    found = []
    try:
        for flushed in (False, True):
            torch.set_flush_denormal(flushed)
            chunk = compiled(frozen, chosen)
            found.append(chunk.advance(block, 0, range(30), held_out))
            assert torch.tensor([1e-40]).mul(1).any() != flushed  # as the caller had it
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(*found)


@pytest.mark.parametrize("layers", [1, 2])
def test_last_layers_start_where_the_others_end(layers):
    frozen, target = fnn_pair(4, 3, 1, F32)
    found = [
        tune.last_layers(frozen, target, layers, steps=40, batch=32, engine=engine) for engine in ("compiled", "torch")
    ]
    for value, wanted in zip(*(one.model.state_dict().values() for one in found), strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", [tune.full, tune.biases])
def test_methods_are_those_of_torch(method):
    frozen, target = fnn_pair(5, 2, 1, F32, narrow=3)
    found = [method(frozen, target, steps=40, batch=33, engine=engine) for engine in ("compiled", "torch")]
    for value, wanted in zip(*(one.model.state_dict().values() for one in found), strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-5)
    assert found[0].certificate.error_bound == pytest.approx(found[1].certificate.error_bound, rel=1e-4)


def test_outputs_are_the_networks_and_of_the_same_bits_for_every_vector_width(libraries):
    for widths, activation in (([16] * 3, "relu"), ([3, 20, 7], "identity"), ([1, 1], "relu")):
        model = network(widths, activation)
        x = torch.randn(3, 101, widths[0], generator=torch.Generator().manual_seed(0))
        one, other = (CompiledOutputs(library, model)(x) for library in libraries)
        assert torch.equal(one, other)
        torch.testing.assert_close(one, model(x).detach(), rtol=1e-5, atol=1e-6)


def test_float64_is_left_to_torch():
    frozen, target = fnn_pair(4, 2, 1, F64)
    found = [tune.lora(frozen, target, 2, steps=5, batch=8, engine=engine) for engine in ("auto", "torch")]
    for value, wanted in zip(*(one.model.state_dict().values() for one in found), strict=True):
        assert torch.equal(value, wanted)
