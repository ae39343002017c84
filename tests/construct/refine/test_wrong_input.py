"""What refinement refuses, when, and in which words; samplers that turn bad half-way."""

import math

import pytest
import torch

from contracts.cases import fnn
from contracts.test_methods import assert_equal, state
from lorascope import construct
from lorascope.errors import ShapeError, SpecError

NAN = math.nan


def later(good, then):
    """A sampler that is well-behaved for ``good`` calls."""
    calls = []

    def sampler(count):
        calls.append(count)
        source = torch.Generator().manual_seed(len(calls))
        return torch.randn(count, 3, generator=source) if len(calls) <= good else then(count)

    return sampler


def fail(count):
    raise ConnectionError(f"no {count} inputs left")


REFUSED = {
    "samples of another width": (ShapeError, r"\(number, 3\), got \(9, 4\)", {"samples": torch.ones(9, 4)}),
    "samples not finite": (SpecError, r"finite.*\(2, 3\)", {"samples": torch.tensor([[1.0, 2.0, NAN], [0.0] * 3])}),
    "no samples": (SpecError, r"at least one, got shape \(0, 3\)", {"samples": torch.ones(0, 3)}),
    "seconds below 0": (SpecError, "seconds must be a number of at least 0.*got -1", {"seconds": -1}),
    "seconds NaN": (SpecError, "seconds must be a number of at least 0.*got nan", {"seconds": NAN}),
    "no such profile": (SpecError, r"one of \['fast', 'full'\], got 'slow'", {"profile": "slow"}),
    "both": (SpecError, "samples.*or sampler.*got both", {"samples": torch.ones(2, 3), "sampler": later(9, fail)}),
}


@pytest.mark.parametrize("activation", ["relu", "identity"])
@pytest.mark.parametrize(("error", "words", "how"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_with_what_was_required_and_what_came(error, words, how, activation, unchecked_annotations):
    frozen, target = fnn(3, 2, 1, activation)
    before = state(frozen), state(target)
    for call in (construct.refined, lambda *pair, **how: construct.refined_path(*pair[:2], [pair[2]], **how)):
        with pytest.raises(error, match=words):
            call(frozen, target, 1, **{"profile": "fast"} | how)
    assert_equal(frozen.state_dict(), before[0])
    assert_equal(target.state_dict(), before[1])


TURNED = {
    "another width": (lambda n: torch.ones(n, 5), ShapeError, r"\(number, 3\), got \(\d+, 5\)"),
    "NaN": (lambda n: torch.full((n, 3), NAN), SpecError, r"finite.*got shape \(\d+, 3\)"),
    "none": (lambda _: torch.ones(0, 3), SpecError, r"at least one, got shape \(0, 3\)"),
    "an error of its own": (fail, ConnectionError, r"no \d+ inputs left"),
}


@pytest.mark.parametrize("good", [0, 1, 2, 20])
@pytest.mark.parametrize(("then", "error", "words"), TURNED.values(), ids=TURNED)
def test_a_sampler_that_turns_bad_is_named_whenever_it_does(then, error, words, good):
    frozen, target = fnn(3, 2, 1)
    before = state(frozen), state(target)
    with pytest.raises(error, match=words):
        construct.refined(frozen, target, 1, sampler=later(good, then), profile="fast", seconds=600)
    assert_equal(frozen.state_dict(), before[0])
    assert_equal(target.state_dict(), before[1])
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("activation", ["relu", "identity"])
@pytest.mark.parametrize("rows", [1, 7, 300, 20000])
def test_a_sampler_that_gives_another_number_of_inputs_is_taken_at_its_word(rows, activation):
    frozen, target = fnn(3, 2, 1, activation)
    inputs = torch.randn(rows, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = construct.refined(frozen, target, 1, sampler=lambda _: inputs, profile="fast", seconds=600)
    with torch.no_grad():
        squares = [float((model(inputs) - target(inputs)).square().mean()) for model in (found.model, frozen)]
    assert squares[0] < squares[1]
    assert found.certificate.expected_error_bound > 0


def test_a_sampler_whose_number_of_inputs_changes():
    frozen, target = fnn(3, 2, 1)
    source = torch.Generator().manual_seed(0)

    def sampler(count):
        size = int(torch.randint(1, count + 1, (), generator=source))
        return torch.randn(size, 3, generator=source)

    found = construct.refined(frozen, target, 1, sampler=sampler, profile="fast", seconds=600)
    assert found.certificate.conditions


def test_seconds_of_0_are_the_closed_form_and_none_is_too_many():
    frozen, target = fnn(3, 2, 1)
    assert "truncation" in construct.refined(frozen, target, 1, seconds=0).method
    found = construct.refined(frozen, target, 1, seconds=math.inf, profile="fast")
    assert found.method.startswith("refined")
