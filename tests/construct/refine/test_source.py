"""Where inputs come from: what is drawn, what is kept apart, and samplers that change their mind."""

import math

import pytest
import torch

from lorascope.construct.refine import input_source
from lorascope.errors import ShapeError, SpecError

CPU = torch.device("cpu")


def source_of(samples=None, sampler=None, shape=(3,), seed=0, **how):
    return input_source(shape, samples, sampler, torch.Generator().manual_seed(seed), CPU, **how)


def rows(count, width=3):
    return torch.arange(count * width, dtype=torch.float32).view(count, width)


@pytest.mark.parametrize("shape", [(3,), (4, 2)])
def test_standard_inputs_are_fresh_at_every_draw(shape):
    source = source_of(shape=shape)
    first, second = source.draw(5), source.draw(5)
    assert first.shape == (5, *shape)
    assert first.dtype == torch.float64
    assert not torch.equal(first, second)
    assert source.standard
    assert source.given is None
    assert float(source.validation.mean().abs()) < 0.05
    assert float(source.validation.std()) == pytest.approx(1, abs=0.05)
    assert torch.equal(source_of(shape=shape).draw(5), first)
    assert not torch.equal(source_of(shape=shape, seed=1).draw(5), first)


@pytest.mark.parametrize(("count", "apart"), [(4, 1), (7, 1), (8, 2), (100, 25)])
def test_one_in_four_of_given_samples_is_never_trained_on(count, apart):
    source = source_of(rows(count))
    assert not source.standard
    assert (len(source.validation), len(source.given)) == (apart, count - apart)
    everything = torch.cat([source.validation, source.given])
    assert torch.equal(everything[everything[:, 0].argsort()], rows(count).double())
    drawn = {float(row[0]) for row in source.draw(400)}
    assert drawn == {float(row[0]) for row in source.given}
    assert torch.equal(source.training(count), source.given)
    assert source.training(2).shape == (2, 3)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_to_keep_any_apart_serve_for_both(count):
    source = source_of(rows(count))
    assert len(source.validation) == len(source.given) == count


def test_nothing_is_kept_apart_where_there_is_nothing_to_choose():
    source = source_of(rows(8), hold_out=False)
    assert len(source.validation) == len(source.given) == 8


def test_samples_are_cast_and_detached_and_left_alone():
    samples = rows(8).requires_grad_()
    source = source_of(samples)
    assert source.draw(3).dtype == source.validation.dtype == torch.float64
    assert not source.draw(3).requires_grad
    assert torch.equal(samples.detach(), rows(8))


def test_a_sampler_is_asked_for_every_draw_and_its_inputs_are_cast_and_detached():
    asked = []

    def sampler(count):
        asked.append(count)
        return torch.ones(count, 3, requires_grad=True)

    source = source_of(sampler=sampler)
    drawn = source.draw(7)
    assert asked[-1] == 7
    assert drawn.shape == (7, 3)
    assert drawn.dtype == torch.float64
    assert not drawn.requires_grad
    assert not source.standard


def test_a_sampler_may_give_another_number_of_inputs():
    source = source_of(sampler=lambda _: torch.ones(11, 3))
    assert len(source.validation) == len(source.draw(128)) == len(source.training(4000)) == 11


# what comes from the second draw on: error, what it says in this order
FICKLE = {
    "another width": (lambda n: torch.ones(n, 4), ShapeError, r"\(number, 3\), got \(5, 4\)"),
    "one axis more": (lambda n: torch.ones(n, 2, 3), ShapeError, r"\(number, 3\), got \(5, 2, 3\)"),
    "one axis less": (torch.ones, ShapeError, r"\(number, 3\), got \(5,\)"),
    "NaN": (lambda n: torch.full((n, 3), math.nan), SpecError, r"finite.*got shape \(5, 3\)"),
    "infinite": (lambda n: torch.full((n, 3), -math.inf), SpecError, "finite"),
    "none": (lambda _: torch.ones(0, 3), SpecError, r"at least one, got shape \(0, 3\)"),
}


@pytest.mark.parametrize(("later", "error", "words"), FICKLE.values(), ids=FICKLE)
def test_every_draw_of_a_sampler_is_checked(later, error, words):
    calls = []

    def sampler(count):
        calls.append(count)
        return torch.ones(count, 3) if len(calls) == 1 else later(count)

    source = source_of(sampler=sampler)
    with pytest.raises(error, match=words):
        source.draw(5)
    with pytest.raises(error, match=words):
        source.training(5)


def test_sequences_keep_their_length():
    source = source_of(sampler=lambda n: torch.ones(n, 5 if n == 4 else 6, 2), shape=(6, 2))
    assert source.draw(3).shape == (3, 6, 2)
    with pytest.raises(ShapeError, match=r"\(number, 6, 2\), got \(4, 5, 2\)"):
        source.draw(4)


def test_what_a_sampler_raises_is_passed_on():
    def sampler(count):
        if count == 3:
            raise OSError("the file is gone")
        return torch.ones(count, 3)

    with pytest.raises(OSError, match="the file is gone"):
        source_of(sampler=sampler).draw(3)
