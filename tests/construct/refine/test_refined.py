"""A refinement as a whole: within the ranks, what was promised, never worse than its closed form."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch

import lorascope as ls
from contracts.cases import fnn
from contracts.test_methods import assert_equal, assert_only_adapters_and_biases_changed, state
from lorascope import construct
from lorascope.construct.refine import job as jobs
from lorascope.errors import SpecError
from reference.attack import assert_bound_holds, errors, inputs_of
from reference.cases import network

PAIRS = {
    "one to two": (4, 2, 1),
    "two to four": (3, 4, 2),
    "uneven": (3, 3, 2),
    "deep": (5, 3, 1),
    "as deep as the frozen one": (3, 2, 2),
}
pairs = pytest.mark.parametrize("sizes", PAIRS.values(), ids=PAIRS)


def refined(frozen, target, rank=1, **how):
    return construct.refined(frozen, target, rank, **{"profile": "fast", "seconds": 600} | how)


def reported(found):
    """The mean square on the inputs it was chosen by, to the four digits in which it is told."""
    return float(re.search(r"mean squared error is (\S+)", found.certificate.conditions[0]).group(1))


def square(model, target, rows):
    with torch.no_grad():
        return float((model(rows) - target(rows)).square().mean())


def normal(width, count=4000, seed=9):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pairs
@pytest.mark.parametrize("rank", [0, 1])
def test_adapters_stay_within_the_rank_and_the_bounds_hold(sizes, rank):
    frozen, target = fnn(*sizes)
    domain = ls.Ball(2.0)
    found = refined(frozen, target, rank, domain=domain)
    assert_only_adapters_and_biases_changed(frozen, found, rank)
    assert found.certificate.domain == domain
    assert not found.certificate.exact
    assert_bound_holds(found.certificate.error_bound, found.model, target, domain, sizes[0], count=32, steps=10)
    points = inputs_of(domain, sizes[0], 400, 1)
    mean = float(errors(found.model, target, points).detach().mean())
    given = refined(frozen, target, rank, domain=domain, sampler=lambda _: points)
    measured = float(errors(given.model, target, points).detach().mean())
    assert 0 < measured <= given.certificate.expected_error_bound <= given.certificate.error_bound * (1 + 1e-9)
    assert measured <= mean * 1.05  # refined for these very inputs


@pairs
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_refinement_is_never_worse_than_its_closed_form(sizes, rank):
    frozen, target = fnn(*sizes, seed=1)
    closed, found = refined(frozen, target, rank, seconds=0), refined(frozen, target, rank)
    if found.certificate.exact:
        assert closed.certificate.exact
        return
    assert "truncation" in closed.method
    assert reported(found) <= reported(closed)
    rows = normal(sizes[0])
    assert square(found.model, target, rows) <= square(closed.model, target, rows) * 1.02


def test_the_adapted_model_is_the_network_that_was_refined(monkeypatch):
    """The loss of the written adapters is that of the best candidate, and of the model that is returned."""
    seen = []
    original = jobs.refine_fnn

    def spy(*args, **how):
        seen.append((original(*args, **how), args[4]))
        return seen[-1][0]

    monkeypatch.setattr(jobs, "refine_fnn", spy)
    for sizes in PAIRS.values():
        frozen, target = fnn(*sizes)
        found = refined(frozen, target, 1, domain=ls.Ball(30.0))
        network, source = seen[-1]
        best = min(candidate.loss for candidate in network.best.values())
        assert network.loss == pytest.approx(best, rel=1e-6)
        assert square(found.model, target, source.validation) == pytest.approx(best, rel=1e-6)
        assert reported(found) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("given", [(2,), (0, 1), (), (1, 2)])
def test_ranks_by_name_are_caps_each(given):
    ranks = {f"layers.{layer}.weight": rank for layer, rank in enumerate(given)}
    frozen, target = fnn(4, 2, 1)
    found = construct.refined(frozen, target, ranks=ranks, profile="fast", seconds=600)
    assert all(adapter.rank <= ranks.get(name, 0) for name, adapter in found.adapters.items())
    assert set(found.biases) <= {"layers.0.bias", "layers.1.bias"}


@pairs
def test_where_the_ranks_suffice_it_is_exact_as_stable_is(sizes):
    frozen, target = fnn(*sizes)
    need = ls.rank_needed(frozen, target).uniform
    for rank in (need, need + 1):
        found, plain = refined(frozen, target, rank), construct.stable(frozen, target, rank)
        assert found.certificate.exact
        assert found.method == plain.method
        assert_equal(found.model.state_dict(), plain.model.state_dict())
        assert found.certificate.error_bound == plain.certificate.error_bound


@pytest.mark.parametrize("seconds", [0, 600])
def test_the_same_call_gives_the_same_bits_and_leaves_everything_else_alone(seconds):
    frozen, target = fnn(4, 2, 1)
    before, random = (state(frozen), state(target)), torch.get_rng_state()
    samples = normal(4, 300)
    copy = samples.clone()
    one, other = (
        refined(frozen, target, 1, seconds=seconds, samples=samples, generator=torch.Generator().manual_seed(3))
        for _ in range(2)
    )
    assert_equal(one.model.state_dict(), other.model.state_dict())
    assert one.certificate == other.certificate
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(samples, copy)
    assert_equal(frozen.state_dict(), before[0])
    assert_equal(target.state_dict(), before[1])
    assert all(parameter.grad is None for parameter in (*frozen.parameters(), *target.parameters()))
    drawn = [refined(frozen, target, 1, generator=torch.Generator().manual_seed(seed)).certificate for seed in (1, 2)]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("which", ["both", "frozen", "target"])
def test_float32_models_come_within_rounding_of_float64(which):
    frozen, target = fnn(4, 2, 1)
    double = refined(frozen, target, 1)
    if which != "target":
        frozen = frozen.float()
    if which != "frozen":
        target = target.float()
    found = refined(frozen, target, 1)
    assert {value.dtype for value in found.model.state_dict().values()} == {frozen.linears[0].weight.dtype}
    assert reported(found) == pytest.approx(reported(double), rel=0.1)
    assert_bound_holds(found.certificate.error_bound, found.model, target, ls.Ball(12.0), 4, count=24, steps=8)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("given", [False, True])
def test_a_narrow_target_leaves_the_other_outputs_exactly_0(rank, given):
    frozen, _ = fnn(5, 4, 2)
    _, target = fnn(3, 4, 2)
    how = {"samples": normal(3, 400)} if given else {}
    found = refined(frozen, target, rank, domain=ls.Ball(3.0), **how)
    rows = torch.nn.functional.pad(inputs_of(ls.Ball(3.0), 3, 300, 0), (0, 2))
    with torch.no_grad():
        outputs = found.model(rows)
    assert not outputs[:, 3:].any()
    closed = refined(frozen, target, rank, domain=ls.Ball(3.0), seconds=0, **how)
    assert reported(found) <= reported(closed)


def test_target_layers_of_several_widths():
    generator = torch.Generator().manual_seed(0)
    frozen = ls.models.FNN(5, 4, generator=generator)
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)  # noqa: E731
    target = ls.models.FNN.from_weights([draw(4, 3), draw(2, 4)], [draw(4), draw(2)])
    for seconds in (0, 600):
        found = refined(frozen, target, 1, seconds=seconds, domain=ls.Ball(3.0))
        assert_only_adapters_and_biases_changed(frozen, found, 1)
        assert_bound_holds(found.certificate.error_bound, found.model, target, ls.Ball(3.0), 3, count=24, steps=8)


def singular(width, depth, target_depth, kill, layer, seed):
    frozen, target = fnn(width, depth, target_depth, seed=seed)
    with torch.no_grad():
        weight = frozen.linears[layer].weight
        weight[:kill] = 0 if seed % 2 else weight[kill : 2 * kill].clone()
    return frozen, target


@pytest.mark.parametrize(
    ("sizes", "kill", "layer", "seed"),
    [((4, 2, 1), 1, 0, 0), ((4, 2, 1), 2, 0, 2), ((5, 4, 2), 2, 0, 0)],
)
def test_singular_frozen_weights_cost_accuracy_but_never_more_than_the_closed_form(sizes, kill, layer, seed):
    frozen, target = singular(*sizes, kill, layer, seed)
    closed, found = refined(frozen, target, 1, seconds=0), refined(frozen, target, 1)
    assert reported(found) <= reported(closed)
    assert_only_adapters_and_biases_changed(frozen, found, 1)
    assert np.isfinite(found.certificate.error_bound)


def test_frozen_weights_of_zero():
    _, target = fnn(3, 2, 1)
    frozen = network([np.zeros((3, 3))] * 2, [np.zeros(3)] * 2)
    found = refined(frozen, target, 1)
    assert_only_adapters_and_biases_changed(frozen, found, 1)
    assert reported(found) <= reported(refined(frozen, target, 1, seconds=0))


def test_width_1():
    for sizes in ((1, 1, 1), (1, 2, 1), (1, 3, 2)):
        frozen, target = fnn(*sizes)
        assert refined(frozen, target, 1).certificate.exact
        found = refined(frozen, target, 0)
        assert found.adapters == {}
        assert reported(found) <= reported(refined(frozen, target, 0, seconds=0))


def test_a_given_partition_is_kept():
    frozen, target = fnn(3, 4, 2)
    for partition, groups in (([[0], [1, 2, 3]], "1 | 3"), ([[0, 1, 2], [3]], "3 | 1")):
        found = refined(frozen, target, 1, seconds=0, partition=partition)
        assert found.method == f"refined ({groups}; covariance-weighted truncation)"
        longer = refined(frozen, target, 1, partition=partition)
        first, second = (
            part.replace("1+1+1", "3") for part in re.search(r"\((.*);", longer.method).group(1).split(" | ")
        )
        assert f"{first} | {second}" == groups


def correlated(width, seed=0):
    """Inputs of a long, shifted distribution."""
    rng = np.random.default_rng(seed)
    mix = torch.from_numpy(rng.standard_normal((width, width)) @ np.diag(3.0 ** -np.arange(width)))
    shift, source = torch.from_numpy(rng.standard_normal(width)), torch.Generator().manual_seed(seed)
    return lambda count: torch.randn(count, width, generator=source, dtype=torch.float64) @ mix.T + shift


@pytest.mark.parametrize("seconds", [0, 600])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_refined_for_a_distribution_it_beats_one_refined_for_standard_inputs_there(seconds, seed):
    frozen, target = fnn(4, 2, 1, seed=seed)
    rows = correlated(4, seed)(4000)
    plain = refined(frozen, target, 1, seconds=seconds)
    for how in ({"sampler": correlated(4, seed)}, {"samples": correlated(4, seed)(2000)}):
        found = refined(frozen, target, 1, seconds=seconds, **how)
        assert square(found.model, target, rows) < square(plain.model, target, rows)


def test_progress_goes_from_start_to_end():
    frozen, target = fnn(3, 4, 2)
    seen = []
    refined(frozen, target, 1, progress=lambda share, what: seen.append((share, what)))
    shares = [share for share, _ in seen]
    assert all(0 <= one <= other <= 1 for one, other in pairwise(shares))
    assert any("Adam" in what for _, what in seen)
    assert any("Levenberg-Marquardt" in what for _, what in seen)


def test_time_limits_the_work(monkeypatch):
    monkeypatch.undo()  # the real profile takes many seconds
    frozen, target = fnn(4, 4, 2)
    found = refined(frozen, target, 1, profile="full", seconds=0.3)
    assert found.seconds < 8
    assert reported(found) <= reported(refined(frozen, target, 1, profile="full", seconds=0))


@pytest.mark.parametrize("seconds", [-1, -1e-9, float("nan"), -float("inf")])
def test_seconds_below_0_are_refused(seconds):
    with pytest.raises(SpecError, match=f"seconds must be a number of at least 0 .*got {seconds}"):
        refined(*fnn(3, 2, 1), 1, seconds=seconds)
