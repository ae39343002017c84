"""Bounds on networks whose ReLUs are kept: never violated, always finite."""

import numpy as np
import pytest
import torch

import lorascope as ls
from adaptation.networks import problem
from lorascope.adaptation import bound_networks
from reference.attack import assert_bound_holds, errors, inputs_of


def by_layer_norms(model, domain):
    ball = isinstance(domain, ls.Ball)
    size = domain.radius if ball else float(torch.maximum(domain.low.abs(), domain.high.abs()).norm())
    for layer in model.linears:
        size = float(torch.linalg.matrix_norm(layer.weight.detach().double(), 2)) * size
        size += float(layer.bias.detach().double().norm())
    return size


def check(seed):
    case = problem(seed)
    samples = inputs_of(case.domain, case.inputs, 40, seed).float().double()
    bounds = bound_networks(case.model, case.target, case.domain, case.partition, samples)
    assert np.isfinite([bounds.error, bounds.expected, bounds.rounding, bounds.residual]).all(), seed
    norms = by_layer_norms(case.model, case.domain) + by_layer_norms(case.target, case.domain)
    single = torch.float32 in {net.linears[0].weight.dtype for net in (case.model, case.target)}
    assert bounds.error <= norms * (1 + (1e-5 if single else 1e-9)) + 1e-300, seed
    worst = assert_bound_holds(
        bounds.error, case.model, case.target, case.domain, case.inputs, count=24, steps=12, seed=seed
    )
    mean = float(errors(case.model, case.target, samples).detach().mean())
    assert mean <= bounds.expected <= bounds.error, seed
    return bounds, worst


@pytest.mark.parametrize("start", range(0, 100, 20))
def test_no_bound_is_violated_on_100_random_cases(start):
    for seed in range(start, start + 20):
        check(seed)


def test_the_cases_have_groups_of_both_kinds_alone_and_together():
    found = []
    for seed in range(60):
        case = problem(seed)
        bounds = bound_networks(case.model, case.target, case.domain, case.partition)
        groups = len(case.partition or ()) or 1
        found.append("kept" if len(bounds.inactive) >= groups else "both" if bounds.inactive else "linearised")
    assert all(found.count(kind) >= 3 for kind in ("kept", "both", "linearised")), found


@pytest.mark.slow
@pytest.mark.parametrize("start", range(100, 1000, 100))
def test_no_bound_is_violated_on_900_more(start):
    for seed in range(start, start + 100):
        check(seed)
