"""On samples, the bound is the measured error and little more, whatever the form and the dtype."""

import pytest
import torch

import lorascope as ls
from lorascope import construct
from lorascope.adaptation import variant_on_samples
from lorascope.errors import ShapeError
from lorascope.models import TransformerNetwork
from reference.variants import FORMS, pair, seeded, tokens

forms = pytest.mark.parametrize("form", FORMS)


def sized(form):
    return {key: min(value, 4) if key == "head_dim" else value for key, value in FORMS[form].items()}


def measured(model, target, samples):
    """Each sample's largest token error, every network in its own dtype."""
    with torch.no_grad():
        ours, theirs = (one(samples.to(one.output.weight.dtype)).double() for one in (model, target))
    return (ours - theirs).norm(dim=-1).amax(dim=1)


def assert_each_within(bounds, errors):
    assert (errors <= bounds).all(), f"a sample is {float((errors - bounds).max())} above its bound"


@forms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_sample_exceeds_its_bound(form, dtype):
    model, target = (one.to(dtype) for one in pair(1, 4, 2, 2, **sized(form)))
    samples = (0.7 * tokens(3, 4)).float().double()
    assert_each_within(variant_on_samples(model, target, samples), measured(model, target, samples))
    # a network beside its own copy of another dtype: all of the error is rounding
    other = pair(1, 4, 2, 2, **sized(form))[0].to(dtype).to(torch.float64)
    bounds, errors = variant_on_samples(model, other, samples), measured(model, other, samples)
    assert_each_within(bounds, errors)
    if dtype == torch.float32:
        assert errors.max() > 0
        with pytest.raises(AssertionError, match="above its bound"):
            assert_each_within(0 * bounds, errors)


@forms
def test_the_certificate_has_the_mean_over_the_samples(form):
    frozen, target = pair(3, 4, 2, 1, **sized(form))
    samples = 0.3 * tokens(1, 4)
    for rank in (1, 4):
        found = construct.stable(frozen, target, rank, samples=samples, domain=ls.Ball(2.0), seconds=0)
        expected, errors = found.certificate.expected_error_bound, measured(found.model, target, samples)
        assert float(errors.mean()) <= expected <= found.certificate.error_bound
        if rank == 1:
            assert expected <= 1.01 * float(errors.square().mean().sqrt())
    outside = construct.stable(frozen, target, 1, samples=100 * samples, domain=ls.Ball(2.0), seconds=0)
    assert outside.certificate.expected_error_bound is None


@pytest.mark.parametrize("place", ["pre", "post"])
def test_bounds_of_two_blocks_with_normalisations_say_something(place):
    frozen, target = pair(3, 6, 2, 2, residual=True, norm=place)
    samples = tokens(1, 6)
    found = construct.stable(frozen, target, 1, samples=samples, seconds=0)
    errors = measured(found.model, target, samples)
    assert found.certificate.expected_error_bound <= 1.1 * float(errors.square().mean().sqrt())


def test_stacked_adapters_have_it_too():
    made = seeded(0)
    frozen, target = (TransformerNetwork(4, 2, 1, head_dim=2, residual=True, generator=made) for _ in range(2))
    found = construct.stacked(frozen, target, 1, seconds=0)
    samples = torch.randn(512, 10, 4, dtype=torch.float64, generator=seeded(0))
    assert float(measured(found.model, target, samples).mean()) <= found.certificate.expected_error_bound


def test_samples_that_do_not_fit_are_quoted():
    model = TransformerNetwork(4, 2, 1)
    with pytest.raises(ShapeError, match=r"\(number, tokens, 4\).*\(1, 2, 3\)"):
        variant_on_samples(model, model, torch.zeros(1, 2, 3).double())
    with pytest.raises(ShapeError, match="target of width 3"):
        variant_on_samples(model, TransformerNetwork(3, 2, 1), torch.zeros(1, 2, 4).double())
