"""What gradient methods promise: all that the others do, but exactness."""

import numpy as np
import pytest
import torch

import lorascope as ls
from contracts.cases import DTYPES, GRADIENT, PAIRS, domains
from contracts.test_methods import assert_equal, assert_only_adapters_and_biases_changed, by_layer_norms, state
from contracts.test_wrong_input import CASES, unchecked_annotations  # noqa: F401
from reference.attack import assert_bound_holds, errors, inputs_of

methods = pytest.mark.parametrize("method", GRADIENT)
SINGLE = [("relu", "float32"), ("identity", "float32"), ("transformer", "float32")]


@methods
@pytest.mark.parametrize(("name", "dtype"), [*((name, "float64") for name in PAIRS), *SINGLE])
def test_the_result_is_a_model_like_the_frozen_one_and_the_inputs_stay(method, name, dtype):
    frozen, target = PAIRS[name].build(DTYPES[dtype])
    before, random = (state(frozen), state(target)), torch.get_rng_state()
    found = GRADIENT[method](frozen, target, 1, domain=ls.Ball(1.0))
    assert torch.equal(torch.get_rng_state(), random)
    assert_equal(frozen.state_dict(), before[0])
    assert_equal(target.state_dict(), before[1])
    assert all(parameter.requires_grad and parameter.grad is None for parameter in frozen.parameters())
    assert type(found.model) is type(frozen)
    assert list(found.model.state_dict()) == list(before[0])
    # a difference trained whole is an adapter of every rank its weight has room for
    assert_only_adapters_and_biases_changed(frozen, found, 1 if "lora" in method else PAIRS[name].width)
    if "fixed" in method:
        assert found.biases == {}
    with torch.no_grad():
        again = GRADIENT[method](frozen, target, 1, domain=ls.Ball(1.0))
    assert_equal(again.model.state_dict(), found.model.state_dict())
    assert again.certificate == found.certificate


@pytest.mark.parametrize("method", ["lora", "last layers", "biases"])
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("domain", ["ball", "box"])
def test_the_certificate_bounds_every_input(method, name, domain):
    pair = PAIRS[name]
    frozen, target = pair.build()
    place = domains(pair.width)[domain]
    found = GRADIENT[method](frozen, target, 1, domain=place)
    certificate = found.certificate
    assert certificate.domain == place
    assert certificate.expected_error_bound is None
    assert np.isfinite(certificate.error_bound)
    assert certificate.error_bound <= by_layer_norms(found.model, target, place) * (1 + 1e-9)
    assert_bound_holds(
        certificate.error_bound, found.model, target, place, pair.width, tokens=pair.tokens, count=16, steps=6
    )
    if certificate.error_bound == 0:  # a width of 1, and both networks are off on the box
        assert (name, domain) == ("relu width 1", "box")
        return
    assert not certificate.exact
    assert "held-out" in certificate.conditions[0]


@methods
@pytest.mark.parametrize("name", ["relu", "relu one to one", "transformer"])
def test_a_target_equal_to_the_frozen_model_stays_so(method, name):
    frozen, _ = PAIRS[name].build()
    target, _ = PAIRS[name].build()
    found = GRADIENT[method](frozen, target, 2, domain=ls.Ball(1.5))
    points = inputs_of(ls.Ball(1.5), PAIRS[name].width, 100, 5, PAIRS[name].tokens)
    assert float(errors(found.model, target, points).detach().max()) <= 1e-12
    if name == "relu one to one":  # no hidden ReLU within a group, so the bound is sharp
        assert found.certificate.exact
        assert found.certificate.conditions == ()


@pytest.mark.parametrize("case", [case for case in CASES if "partition" not in CASES[case][3]])
def test_wrong_input_is_refused_as_by_every_method(case, unchecked_annotations):  # noqa: F811
    error, words, build, arguments = CASES[case]
    pair = PAIRS["relu"].build() if build is None else build()
    if build is None and ("samples" in arguments or "sampler" in arguments or "domain" in arguments):
        pair = [model.__class__(3, depth) for model, depth in zip(pair, (2, 1), strict=True)]
    words = words.replace("4096", "16")
    with pytest.raises(error, match=words):
        GRADIENT["lora"](*pair, **arguments)
