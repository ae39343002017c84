"""Transformers refined below the threshold: within the ranks, never worse than the closed form, what was promised."""

import copy
import math
import time

import pytest
import torch

import lorascope as ls
from lorascope import construct
from lorascope.construct.refine import input_source, transformer
from lorascope.construct.refine.transformer import refine_transformer
from lorascope.construct.refine.transformer_plan import plan
from lorascope.construct.refine.transformer_products import (
    Softmax,
    effective_of,
    forward,
    gather,
    layerwise_error,
    squared_error,
    straight_through,
)
from lorascope.construct.refine.transformer_realise import realise
from lorascope.construct.refine.transformer_schedule import Candidate, Round, Stage, refine, train
from lorascope.construct.refine.transformer_space import product_space
from lorascope.construct.refine.transformer_starts import (
    align_hidden,
    corrections_of,
    moments_of,
    permute_heads,
    stack,
    start_from_truncation,
    woken,
)
from lorascope.errors import RankError
from lorascope.models import TransformerNetwork
from reference import forward as reference

CPU = torch.device("cpu")


def pair(width=3, heads=2, depth=1, target_heads=None, seed=0, dtype=torch.float64):
    source = torch.Generator().manual_seed(seed)
    frozen = TransformerNetwork(width, heads, depth, generator=source)
    target = TransformerNetwork(width, target_heads or heads, depth, generator=source)
    return frozen.to(dtype), target.to(dtype)


def names(model):
    return [name for name, parameter in model.named_parameters() if parameter.ndim > 1]


def given(model, rank):
    return dict.fromkeys(names(model), rank)


def inputs_of(width, tokens=3, seed=1, samples=None):
    return input_source((tokens, width), samples, None, torch.Generator().manual_seed(seed), CPU)


def refined(frozen, target, ranks, source=None, seed=2, **how):
    source = source or inputs_of(target.embed_dim)
    generator = torch.Generator().manual_seed(seed)
    return refine_transformer(frozen, target, ranks, source, None, generator=generator, **how)


def mse(model, target, inputs):
    with torch.no_grad():
        return float((model(inputs) - target(inputs)).square().mean())


def assert_no_worse(model, other, target, inputs):
    mine, theirs = mse(model, target, inputs), mse(other, target, inputs)
    assert mine <= theirs * (1 + 1e-9), f"error {mine} above {theirs}"


def assert_within(adaptation, ranks):
    found = {name: adapter.rank for name, adapter in adaptation.adapters.items()}
    assert all(rank <= ranks[name] for name, rank in found.items()), f"ranks {found} where {ranks} are allowed"


@pytest.fixture
def short(monkeypatch):
    """A schedule with a bit of everything, a few steps each."""
    stages = (
        Stage(6, 8, (4e-2,), "anneal", (0.1, 0.05), layerwise=True, slow=0.3),
        Stage(6, 8, (1e-2, 3e-2), "straight", (0.1, 0.05)),
    )
    rounds = (Round(3, stages), Round(1, (Stage(6, 8, (1e-2,)),)))
    monkeypatch.setattr(transformer, "plan", lambda *_: rounds)


def test_the_helpers_reject_wrong_answers():
    frozen, target = pair()
    inputs = torch.ones(2, 3, 3, dtype=torch.float64)
    with pytest.raises(AssertionError, match="above"):
        assert_no_worse(frozen, target, target, inputs)
    exact = construct.stable(frozen, target, rank=3)
    with pytest.raises(AssertionError, match="are allowed"):
        assert_within(exact, given(frozen, 0))
    with pytest.raises(AssertionError, match="differ by"):
        assert_as_the_paper_writes(frozen, forward(effective_of(target), inputs)[0], inputs)


def assert_as_the_paper_writes(model, found, inputs):
    keys = {"Q": "query", "K": "key", "V": "value", "O": "out"}
    blocks = []
    for layer in model.layers:
        block = {short: list(getattr(layer, name).detach().double().numpy()) for short, name in keys.items()}
        for place, linear in (("1", layer.ffn_in), ("2", layer.ffn_out)):
            block |= {f"W{place}": linear.weight.detach().double().numpy(), f"b{place}": linear.bias.detach().numpy()}
        blocks.append(block)
    for sequence, output in zip(inputs, found, strict=True):
        wanted = reference.transformer(sequence.numpy().T, blocks, model.output.weight.detach().double().numpy())
        reference.assert_same(output.detach().numpy().T, wanted, 1e-8)


@pytest.mark.parametrize(
    ("width", "heads", "depth", "tokens"), [(3, 2, 1, 4), (4, 3, 3, 2), (1, 1, 2, 3), (2, 1, 1, 1)]
)
def test_products_compute_what_the_network_computes(width, heads, depth, tokens, generator):
    frozen, other = pair(width, heads, depth)
    inputs = torch.randn(3, tokens, width, generator=generator, dtype=torch.float64)
    found = forward(gather([effective_of(frozen), effective_of(other)]), inputs)
    assert_as_the_paper_writes(frozen, found[0], inputs)
    assert_as_the_paper_writes(other, found[1], inputs)
    errors = squared_error(gather([effective_of(frozen), effective_of(other)]), effective_of(other), inputs, chunk=2)
    assert errors[1] == 0
    assert float(errors[0]) == pytest.approx(mse(frozen, other, inputs), rel=1e-8)


def test_missing_heads_contribute_nothing(generator):
    target = pair(3, 1, 2)[0]
    inputs = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    assert_as_the_paper_writes(target, forward(effective_of(target, heads=3), inputs)[0], inputs)


@pytest.mark.parametrize("scale", [1.0, 0.3, 0.01])
def test_straight_through_is_softmax_with_the_derivative_at_smaller_scores(scale, generator):
    scores = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    found = straight_through(scores, scale)
    assert torch.equal(found, scores.softmax(dim=1))
    (mine,) = torch.autograd.grad((found * weight).sum(), scores)
    (theirs,) = torch.autograd.grad(((scores * scale).softmax(dim=1) * weight).sum() / scale, scores)
    torch.testing.assert_close(mine, theirs)
    if scale == 1:  # and then it is the derivative
        assert torch.autograd.gradcheck(lambda value: straight_through(value, 1.0), scores)


def test_annealed_attention_multiplies_scores(generator):
    frozen, _ = pair(3, 2, 2)
    inputs = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    whole = effective_of(frozen)
    smaller = whole.mapped(lambda value: value)
    smaller = type(whole)(
        [0.5 * value for value in whole.scores], whole.values, whole.biases, whole.shifts, whole.final, whole.offset
    )
    torch.testing.assert_close(forward(whole, inputs, [Softmax(0.5)] * 2), forward(smaller, inputs))


def test_the_scale_of_a_stage_rises_to_one():
    stage = Stage(10, 1, (1.0,), "anneal", (0.1, 0.01))
    assert [way.scale for way in stage.softmax(3, 0.0)] == [0.1, 0.01, 0.01]
    assert all(way.scale == 1 for share in (0.8, 1.0) for way in stage.softmax(2, share))
    assert stage.softmax(1, 0.4)[0].scale == pytest.approx(0.1**0.5)
    assert Stage(1, 1, (1.0,)).softmax(2, 0.0) == [Softmax()] * 2


def test_block_by_block_nothing_is_wrong_with_the_target_itself(generator):
    frozen, target = pair(3, 2, 3)
    inputs = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64)
    errors = layerwise_error(gather([effective_of(target), effective_of(frozen)]), effective_of(target), inputs)
    assert float(errors[0]) < 1e-18
    assert float(errors[1]) > 1e-3
    one = [effective_of(pair(3, 2, 1, seed=5)[0]), effective_of(pair(3, 2, 1, seed=6)[0])]
    torch.testing.assert_close(layerwise_error(one[0], one[1], inputs), squared_error(one[0], one[1], inputs))


def corrections(frozen, target, ranks, generator):
    space, goal = product_space(frozen, ranks), effective_of(target, frozen.num_heads)
    inputs = torch.randn(50, 3, frozen.embed_dim, generator=generator, dtype=torch.float64)
    return space, goal, start_from_truncation(space, goal, moments_of(goal, inputs))


@pytest.mark.parametrize(("width", "heads", "depth"), [(4, 2, 1), (3, 1, 2), (3, 2, 3), (1, 1, 2)])
def test_adapters_compute_what_their_products_say(width, heads, depth, generator):
    frozen, target = pair(width, heads, depth)
    for rank in (0, 1, width):
        ranks = {name: rank + place % 2 for place, name in enumerate(names(frozen))}
        space, _, found = corrections(frozen, target, ranks, generator)
        found = {
            name: value + 0.3 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
            for name, value in found.items()
        }
        model, adapters, biases = realise(frozen, space, found, ranks)
        assert all(adapter.rank <= ranks[name] for name, adapter in adapters.items())
        assert set(biases) == {name for name, parameter in frozen.named_parameters() if parameter.ndim == 1}
        inputs = torch.randn(5, 4, width, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(model(inputs), forward(space.compose(found), inputs)[0], rtol=1e-6, atol=1e-6)
        # and back again
        known = corrections_of(space, effective_of(model), adapters)
        torch.testing.assert_close(
            forward(space.compose(known), inputs), forward(space.compose(found), inputs), rtol=1e-5, atol=1e-5
        )


def test_truncation_of_full_rank_is_the_target(generator):
    frozen, target = pair(4, 3, 2, target_heads=2)
    space, goal, found = corrections(frozen, target, given(frozen, 2), generator)
    inputs = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(forward(space.compose(found), inputs), forward(goal, inputs), rtol=1e-6, atol=1e-6)


def test_a_shared_feed_forward_correction_leaves_less_to_the_heads(generator):
    frozen, target = pair(5, 2, 1)
    plain = given(frozen, 1) | {"blocks.0.ffn_in.weight": 0}
    gaps = []
    for ranks in (plain, given(frozen, 1)):
        space, goal, found = corrections(frozen, target, ranks, torch.Generator().manual_seed(3))
        gaps.append(float((space.compose(found).values[0] - goal.values[0]).norm()))
    assert gaps[1] < gaps[0]


def test_reordered_targets_are_the_same_function(generator):
    frozen, target = pair(4, 3, 2)
    inputs = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)
    goal = effective_of(target)
    turned = align_hidden(
        permute_heads(goal, [(1, 2, 0), (2, 1, 0)]), product_space(frozen, given(frozen, 1)), moments_of(goal, inputs)
    )
    assert not torch.equal(turned.final, goal.final)
    torch.testing.assert_close(forward(turned, inputs), forward(goal, inputs))


def test_sleeping_factors_are_woken_and_others_left_alone(generator):
    asleep = {"final.left": torch.zeros(1, 3, 2), "final.right": torch.zeros(1, 2, 3), "offset": torch.ones(1, 3)}
    asleep["final.left"][0, 0, 1], asleep["final.right"][0, 1] = 1.0, torch.ones(3)
    found = woken(asleep, generator)
    assert found["final.right"][0, 0].abs().min() > 0
    assert torch.equal(found["final.right"][0, 1], torch.ones(3))
    assert torch.equal(found["final.left"], asleep["final.left"])


def test_training_lowers_the_error_and_leaves_its_start_alone(generator):
    frozen, target = pair(3, 2, 2)
    space, goal, found = corrections(frozen, target, given(frozen, 1), generator)
    found = {name: value + 0.2 for name, value in found.items()}
    before = copy.deepcopy(found)
    inputs = torch.randn(200, 3, 3, generator=generator, dtype=torch.float64)
    members = stack([found, found])
    stage = Stage(80, 32, (1e-2,))
    draw = lambda count: torch.randn(count, 3, 3, generator=generator, dtype=torch.float64)  # noqa: E731
    after = train(space, goal, members, draw, stage, [1e-2, 0.0])
    errors = squared_error(space.compose(after), goal, inputs)
    assert errors[0] < errors[1]
    assert float(errors[1]) == pytest.approx(float(squared_error(space.compose(found), goal, inputs)[0]))
    assert all(torch.equal(value, before[name]) for name, value in found.items())


def test_a_deadline_shortens_every_stage(generator):
    frozen, target = pair(3, 1, 1)
    space, goal, found = corrections(frozen, target, given(frozen, 1), generator)
    steps = []

    def draw(count):
        steps.append(count)
        return torch.randn(count, 3, 3, generator=generator, dtype=torch.float64)

    rounds = (Round(1, (Stage(3000, 4, (1e-2,)), Stage(3000, 5, (1e-2,)))),)
    start, began = time.monotonic(), time.process_time()
    seen = []
    pool = refine(
        space,
        [Candidate(found, goal, "start")],
        rounds,
        draw,
        draw(50),
        deadline=start + 0.6,
        progress=lambda share, words: seen.append((share, words)),
    )
    assert time.process_time() - began < 3
    assert 10 < steps.count(4) < 3000
    assert 10 < steps.count(5) < 3000
    assert [words for _, words in seen] == ["plain", "plain"]
    assert pool[0].error <= pool[-1].error


@pytest.mark.parametrize(("width", "heads", "depth"), [(3, 2, 1), (3, 2, 2), (2, 1, 3), (1, 1, 1)])
def test_within_the_ranks_and_no_worse_than_the_closed_form(short, width, heads, depth):
    frozen, target = pair(width, heads, depth)
    source = inputs_of(width)
    for rank in (0, 1):
        found = refined(frozen, target, given(frozen, rank), source)
        assert_within(found, given(frozen, rank))
        closed = construct.stable(frozen, target, rank)
        assert_no_worse(found.model, closed.model, target, source.validation[:1000])
        assert math.isfinite(found.certificate.error_bound)
        with torch.no_grad():
            apart = (found.model(source.validation) - target(source.validation)).norm(dim=-1)
        assert found.certificate.error_bound >= float(apart.max())
        assert list(found.model.state_dict()) == list(frozen.state_dict())


def test_refinement_is_of_use():
    frozen, target = pair(4, 2, 1)
    source = inputs_of(4)
    ranks = given(frozen, 1)
    found = refined(frozen, target, ranks, source, profile="fast")
    assert found.method.startswith("refined: ")
    assert_within(found, ranks)
    fresh = torch.randn(2000, 3, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    assert mse(found.model, target, fresh) < 0.8 * mse(construct.stable(frozen, target, 1).model, target, fresh)
    assert found.seconds > 0


def test_the_same_generators_give_the_same_adapters_and_nothing_else_is_touched(short):
    frozen, target = pair(3, 2, 2)
    kept = copy.deepcopy(frozen.state_dict()), copy.deepcopy(target.state_dict())
    state = torch.random.get_rng_state()
    one, other = (refined(frozen, target, given(frozen, 1)) for _ in range(2))
    assert all(torch.equal(value, other.model.state_dict()[name]) for name, value in one.model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    for model, before in zip((frozen, target), kept, strict=True):
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_after_the_deadline_the_closed_form():
    frozen, target = pair(4, 2, 2)
    start = time.process_time()  # whatever else the machine does
    found = refined(frozen, target, given(frozen, 1), deadline=time.monotonic() - 1)
    assert time.process_time() - start < 3
    assert "refined" not in found.method
    assert_within(found, given(frozen, 1))


@pytest.mark.parametrize("case", ["at the threshold", "narrow", "singular"])
def test_where_nothing_can_be_refined_the_closed_form(short, case):
    frozen, target = pair(4, 2, 1)
    rank = 1
    if case == "at the threshold":
        rank = ls.rank_needed(frozen, target).uniform
    elif case == "narrow":
        target = pair(3, 2, 1)[1]
    else:
        with torch.no_grad():
            frozen.layers[0].key[1].zero_()
    found = refined(frozen, target, given(frozen, rank))
    assert "refined" not in found.method
    assert found.certificate.exact == (case == "at the threshold")


def test_fewer_heads_and_one_token(short):
    frozen, target = pair(3, 2, 2, target_heads=1)
    source = inputs_of(3, tokens=1)
    found = refined(frozen, target, given(frozen, 1), source)
    assert_no_worse(found.model, construct.stable(frozen, target, 1).model, target, source.validation[:1000])


def test_given_samples_and_unequal_ranks(short, generator):
    frozen, target = pair(3, 2, 2)
    samples = torch.randn(3, 4, 3, generator=generator, dtype=torch.float64) + 1
    source = inputs_of(3, samples=samples)
    ranks = given(frozen, 0) | {"blocks.0.query": 2, "blocks.1.out": 1, "blocks.0.ffn_out.weight": 1}
    found = refined(frozen, target, ranks, source)
    assert_within(found, ranks)
    assert_no_worse(found.model, frozen, target, source.validation)


def test_single_precision(short):
    frozen, target = pair(3, 2, 1, dtype=torch.float32)
    found = refined(frozen, target, given(frozen, 1))
    assert found.model.output.weight.dtype == torch.float32
    assert_within(found, given(frozen, 1))


def test_a_start_is_never_lost(short):
    frozen, target = pair(4, 2, 2)
    source = inputs_of(4)
    low = refined(frozen, target, given(frozen, 1), source)
    high = refined(frozen, target, given(frozen, 2) | {"output.weight": 1}, source, start=low)
    assert_no_worse(high.model, low.model, target, source.validation[:1000])
    again = refined(frozen, target, given(frozen, 1), source, start=low, deadline=time.monotonic() - 1)
    assert_no_worse(again.model, low.model, target, source.validation[:1000])
    with pytest.raises(RankError, match="give an adaptation of lower rank"):
        refined(frozen, target, given(frozen, 0), source, start=low)


def test_a_box_as_the_domain(short):
    frozen, target = pair(3, 1, 1)
    box = ls.Box([-1.0, -2.0, -1.0], [1.0, 0.5, 2.0])
    found = refine_transformer(
        frozen, target, given(frozen, 1), inputs_of(3), box, generator=torch.Generator().manual_seed(0)
    )
    assert found.certificate.domain == box
    assert found.certificate.expected_error_bound is None  # normal inputs leave the box
    assert refined(frozen, target, given(frozen, 1)).certificate.expected_error_bound > 0


def test_every_plan_names_stages_that_fit():
    for depth in (1, 2, 5):
        for profile in ("full", "fast"):
            for one in plan(depth, profile):
                assert one.keep >= 1
                assert all(stage.steps > 0 and stage.rates for stage in one.stages)
