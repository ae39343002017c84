"""The bound holds for every input of the domain, is finite, and small where the networks agree."""

import math

import pytest
import torch

import lorascope as ls
from lorascope.adaptation import bound_variant
from reference.attack import assert_bound_holds
from reference.variants import FORMS, pair, seeded

forms = pytest.mark.parametrize("form", FORMS)
DOMAINS = {"ball": ls.Ball(2.0), "box": ls.Box([-0.5, 0.0, 0.2, -1.0], [0.5, 0.1, 0.3, 1.0])}


def sized(form):
    return {key: min(value, 4) if key == "head_dim" else value for key, value in FORMS[form].items()}


def tame(seed, heads, depth, **form):
    """Scores of size about 1 near the unit ball."""
    made = pair(seed, 4, heads, depth, **form)
    generator = seeded(seed)
    with torch.no_grad():
        for network in made:
            for name, parameter in network.named_parameters():
                if "norm" not in name:
                    draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                    size = 0.2 if name.endswith("bias") else 0.3 / parameter.shape[-1] ** 0.5
                    start = 0.0 if name.endswith("bias") else torch.eye(*parameter.shape[-2:], dtype=torch.float64)
                    parameter.copy_(start + size * draw)
    return made


@forms
@pytest.mark.parametrize("domain", DOMAINS)
def test_the_bound_holds_at_below_and_far_below_the_rank(form, domain):
    place = DOMAINS[domain]
    frozen, target = pair(3, 4, 2, 1 if domain == "box" else 2, **sized(form))
    need = ls.rank_needed(frozen, target).uniform
    for rank in (need, need - 1, 0):
        found = ls.adapt(frozen, target, rank, domain=place, seconds=0)
        bound = found.certificate.error_bound
        assert math.isfinite(bound)
        assert_bound_holds(bound, found.model, target, place, 4, tokens=3, count=12, steps=6)
        assert not found.certificate.exact or rank == need


@forms
def test_one_block_is_certified_exact_at_its_rank_and_not_below(form):
    frozen, target = tame(5, 2, 1, **sized(form))
    need = ls.rank_needed(frozen, target).uniform
    for rank in (need, need - 1):
        found = ls.adapt(frozen, target, rank, domain=ls.Ball(1.5), seconds=0)
        largest = 1 + float(target(torch.ones(1, 2, 4, dtype=torch.float64)).detach().norm())
        if FORMS[form].get("norm"):  # where two entries are all but equal, rounding grows by 1 / sqrt(eps) each time
            assert (found.certificate.error_bound <= 1e-4 * largest) == (rank == need)
            continue
        assert found.certificate.exact == (rank == need)
        assert (found.certificate.conditions == ()) == (rank == need)


@pytest.mark.parametrize("form", ["residual", "biases", "narrow heads", "wide hidden", "wider hidden"])
def test_two_blocks_without_norms_are_certified_too(form):
    frozen, target = tame(6, 2, 2, **sized(form))
    found = ls.adapt(frozen, target, ls.rank_needed(frozen, target).uniform, domain=ls.Ball(1.5))
    assert found.certificate.exact


def test_two_blocks_with_norms_are_exact_but_no_bound_says_so():
    frozen, target = tame(7, 2, 2, residual=True, norm="pre")
    found = ls.adapt(frozen, target, 4, domain=ls.Ball(1.5), seconds=0)
    assert not found.certificate.exact
    assert any("normalisations amplify" in note for note in found.certificate.conditions)


@forms
def test_float32_is_bounded(form):
    frozen, target = (model.float() for model in pair(2, 4, 1, 1, **sized(form)))
    found = ls.adapt(frozen, target, ls.rank_needed(frozen, target).uniform, domain=ls.Ball(1.0), seconds=0)
    assert_bound_holds(found.certificate.error_bound, found.model, target, ls.Ball(1.0), 4, tokens=3, count=24, steps=8)


@forms
def test_networks_that_differ_anywhere_have_a_bound_that_shows_it(form):
    """Any one parameter moved, without any adaptation: the bound holds for what the certificate was not built for."""
    model, _ = tame(8, 2, 1, **sized(form))
    frames = [torch.eye(4, dtype=torch.float64)]
    other, _ = tame(8, 2, 1, **sized(form))
    for name, parameter in list(model.named_parameters()):
        before = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(torch.randn(parameter.shape, generator=seeded(1), dtype=torch.float64), alpha=0.3)
        bounds = bound_variant(model, other, 1.0, frames)
        worst = assert_bound_holds(bounds.error, model, other, ls.Ball(1.0), 4, tokens=3, count=12, steps=3)
        assert name.endswith("key_bias") or worst > 1e-9
        with torch.no_grad():
            parameter.copy_(before)


def test_norms_of_two_epsilons_are_told_apart():
    model, _ = tame(9, 2, 1, residual=True, norm="pre")
    other, _ = tame(9, 2, 1, residual=True, norm="pre")
    other.norm.eps = 1e-2
    bounds = bound_variant(model, other, 1.0, [torch.eye(4, dtype=torch.float64)])
    assert_bound_holds(bounds.error, model, other, ls.Ball(1.0), 4, tokens=3, count=24, steps=5)
