"""Every form of transformer: exact at its rank, not below, biases and normalisations as promised."""

import copy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lorascope as ls
from lorascope import construct
from lorascope.errors import ShapeError
from lorascope.models import TransformerNetwork
from reference.cases import seeds
from reference.variants import FORMS, pair, relative_error, seeded, tokens

forms = pytest.mark.parametrize("form", FORMS)
# small adapters are for other tests: the first construction that is exact will do
adapt = partial(ls.adapt, seconds=0)
HEADS = ("query", "key", "value", "out")


def sized(form, width):
    return {key: min(value, width) if key == "head_dim" else value for key, value in FORMS[form].items()}


@forms
@pytest.mark.parametrize(("width", "heads", "depth"), [(5, 2, 2), (4, 1, 1)])
def test_exact_at_the_rank_and_with_ranks_of_its_own_for_every_parameter(form, width, heads, depth):
    frozen, target = pair(width, width, heads, depth, **sized(form, width))
    need = ls.rank_needed(frozen, target)
    inputs = tokens(1, width)
    for allowed in ({"rank": need.uniform}, {"ranks": need.per_parameter}):
        found = adapt(frozen, target, **allowed)
        assert relative_error(found.model, target, inputs) <= 1e-11
        assert relative_error(found.model, target, 5 * inputs) <= 1e-10
        assert found.certificate.residual <= 1e-10
        for name, adapter in found.adapters.items():
            assert adapter.rank <= (need.uniform if "rank" in allowed else need.per_parameter[name]), name
        assert set(found.biases) <= {k for k, v in frozen.state_dict().items() if k.endswith("bias") or "norm" in k}


@forms
@pytest.mark.parametrize("group", ["heads", "rest"])
def test_one_rank_less_is_not_exact(form, group):
    frozen, target = pair(2, 5, 2, 1, **sized(form, 5))
    need = ls.rank_needed(frozen, target)
    inputs = tokens(1, 5)
    ranks = dict(need.per_parameter)
    chosen = HEADS if group == "heads" else ("ffn_in.weight", "ffn_out.weight", "output.weight")
    for name, rank in ranks.items():
        if name.endswith(chosen):
            ranks[name] = max(rank - 1, 0)
    found = adapt(frozen, target, ranks=ranks)
    assert not found.certificate.exact
    assert any("rank too small" in note for note in found.certificate.conditions)
    assert relative_error(found.model, target, inputs) > 1e-6


def test_seven_behind_a_norm_is_exact_with_attention_of_rank_three_not_two():
    frozen, target = pair(0, 7, 2, 1, residual=True, norm="pre", attention_bias=True)
    need = ls.rank_needed(frozen, target).per_parameter
    for rank in (3, 2):
        ranks = {name: rank if name.endswith(HEADS) else least for name, least in need.items()}
        error = relative_error(adapt(frozen, target, ranks=ranks).model, target, tokens(1, 7))
        assert (error <= 1e-11) if rank == 3 else (error > 1e-3)


@settings(max_examples=12)
@given(seeds, st.integers(1, 5), st.integers(1, 2), st.sampled_from(sorted(FORMS)), st.integers(1, 9))
def test_random_sizes_are_exact(seed, width, heads, form, hidden):
    made = sized(form, width) | {"ffn_dim": hidden}
    frozen, target = pair(seed, width, heads, 1, **made)
    need = ls.rank_needed(frozen, target)
    found = adapt(frozen, target, need.uniform)
    worst = float((found.model(tokens(2, width)) - target(tokens(2, width))).detach().abs().max())
    scale = float(target(tokens(2, width)).detach().abs().max())
    assert worst <= 1e-7 * scale
    assert worst <= found.certificate.error_bound


@forms
def test_a_copy_is_met_without_adapters(form):
    frozen, _ = pair(1, 4, 2, 2, **sized(form, 4))
    found = adapt(frozen, copy.deepcopy(frozen), 2)
    assert found.adapters == {}
    assert relative_error(found.model, frozen, tokens(0, 4)) <= 1e-14


@forms
def test_more_rank_is_never_worse(form):
    frozen, target = pair(8, 3, 1, 1, **sized(form, 3))
    inputs = 0.3 * tokens(3, 3)
    found = [relative_error(adapt(frozen, target, rank).model, target, inputs) for rank in range(4)]
    need = ls.rank_needed(frozen, target).uniform
    assert found[0] > 1e-2
    assert max(found[need:]) <= 1e-11
    assert found[need - 1] > 1e-6


@pytest.mark.parametrize("form", ["pre", "pre, biases", "usual pre"])
def test_before_a_layer_normalisations_stay_as_they_are(form):
    frozen, target = pair(3, 5, 2, 2, **sized(form, 5))
    found = adapt(frozen, target, 5)
    assert {name for name in found.biases if "norm" in name} <= {"norm.bias"}
    assert all(name.endswith("bias") for name in found.biases)


def test_the_final_shift_stays_where_that_costs_no_rank():
    frozen, target = pair(3, 5, 1, 1, residual=True, norm="pre")
    assert "norm.bias" in adapt(frozen, target, 5).biases
    with torch.no_grad():
        target.output.weight.copy_(frozen.output.weight)
        target.norm.load_state_dict(frozen.norm.state_dict())
    found = adapt(frozen, target, 5)
    assert "norm.bias" not in found.biases
    assert "output.weight" not in found.adapters
    assert relative_error(found.model, target, tokens(0, 5)) <= 1e-11


@pytest.mark.parametrize("bias", [False, True])
def test_normalisations_that_start_as_the_identity_stay_the_identity(bias):
    generator = seeded(1)
    frozen, target = (
        TransformerNetwork(5, 2, 1, residual=True, norm="pre", attention_bias=bias, generator=generator)
        for _ in range(2)
    )
    found = adapt(frozen, target, 4)
    assert not any("norm" in name for name in found.biases)
    assert relative_error(found.model, target, tokens(0, 5)) <= 1e-11


def test_a_shift_that_no_weight_can_make_is_tuned_where_attention_has_no_biases():
    frozen, target = pair(2, 5, 2, 1, residual=True, norm="pre")
    with torch.no_grad():
        frozen.layers[0].norm_attention.bias.zero_()
    found = adapt(frozen, target, 4)
    assert "blocks.0.norm_attention.bias" in found.biases
    assert relative_error(found.model, target, tokens(0, 5)) <= 1e-11


@pytest.mark.parametrize("part", ["frozen", "target"])
def test_scales_of_zero_are_replaced_or_matched(part):
    for bias in (False, True):
        frozen, target = pair(2, 5, 2, 1, residual=True, norm="pre", attention_bias=bias)
        with torch.no_grad():
            model = frozen if part == "frozen" else target
            for norm in (model.layers[0].norm_attention, model.layers[0].norm_ffn, model.norm):
                norm.weight[1] = 0
            if not bias:
                frozen.layers[0].norm_attention.bias.zero_()
        found = adapt(frozen, target, 5)
        assert relative_error(found.model, target, tokens(0, 5)) <= 1e-10
        assert ("blocks.0.norm_ffn.weight" in found.biases) == (part == "frozen")


def test_after_a_layer_normalisations_become_the_targets_but_the_last_keeps_its_scale():
    frozen, target = pair(3, 5, 2, 2, residual=True, norm="post")
    found = adapt(frozen, target, 5)
    for name in ("blocks.0.norm_attention", "blocks.0.norm_ffn", "blocks.1.norm_attention"):
        for kind in ("weight", "bias"):
            assert torch.equal(found.biases[f"{name}.{kind}"], target.state_dict()[f"{name}.{kind}"])
    assert "blocks.1.norm_ffn.weight" not in found.biases


def test_key_biases_never_change():
    frozen, target = pair(3, 5, 2, 1, **FORMS["usual post"])
    assert not any(name.endswith("key_bias") for name in adapt(frozen, target, 5).biases)


@pytest.mark.parametrize("form", ["usual pre", "post", "narrow, wide, biases", "biases"])
def test_float32_models_get_float32_adapters(form):
    frozen, target = (model.float() for model in pair(2, 4, 2, 1, **sized(form, 4)))
    need = ls.rank_needed(frozen, target)
    found = adapt(frozen, target, need.uniform, domain=ls.Ball(2.0))
    assert all(value.dtype == torch.float32 for value in found.model.state_dict().values())
    assert all(adapter.A.dtype == torch.float32 for adapter in found.adapters.values())
    assert relative_error(found.model, target, 0.5 * tokens(0, 4).float()) <= 1e-3


def test_targets_with_fewer_and_narrower_heads_and_fewer_hidden_units():
    made = ({"residual": True, "norm": "pre"}, {"residual": True, "attention_bias": True}, {"attention_bias": True}, {})
    for form in made:
        frozen, _ = pair(6, 6, 3, 2, head_dim=4, ffn_dim=9, **form)
        _, target = pair(7, 6, 2, 2, head_dim=3, ffn_dim=7, **form | {"attention_bias": False})
        need = ls.rank_needed(frozen, target)
        found = adapt(frozen, target, ranks=need.per_parameter)
        assert relative_error(found.model, target, tokens(0, 6)) <= 1e-10, form


def test_a_paper_form_model_takes_a_target_with_narrower_heads():
    frozen, _ = pair(6, 5, 2, 2)
    _, target = pair(7, 5, 2, 2, head_dim=2, ffn_dim=3)
    need = ls.rank_needed(frozen, target)
    found = adapt(frozen, target, need.uniform)
    assert relative_error(found.model, target, tokens(0, 5)) <= 1e-10


def test_singular_frozen_weights_are_met_or_named():
    frozen, target = pair(9, 5, 1, 1, residual=True, norm="pre", attention_bias=True)
    with torch.no_grad():
        frozen.layers[0].query[0, 0] = 0
        frozen.layers[0].out[0, :, 1] = 0
        frozen.output.weight[2] = 0
    need = ls.rank_needed(frozen, target)
    found = adapt(frozen, target, ranks=need.per_parameter)
    assert relative_error(found.model, target, tokens(0, 5)) <= 1e-9
    none = adapt(frozen, target, 0)
    assert any("no bias" in note for note in none.certificate.conditions)


def test_the_papers_split_is_for_the_papers_form():
    frozen, target = pair(0, 3, 1, 1, residual=True)
    with pytest.raises(ShapeError, match=r"paper's form.*as frozen.*construct\.stable"):
        construct.paper(frozen, target, 3)


@pytest.mark.parametrize("form", ["usual pre", "post", "narrow, wide, biases"])
def test_models_are_left_alone_and_calls_repeat_bit_by_bit(form):
    frozen, target = pair(4, 4, 2, 1, **sized(form, 4))
    before = [copy.deepcopy(model.state_dict()) for model in (frozen, target)]
    first, second = (adapt(frozen, target, 2) for _ in range(2))
    for model, state in zip((frozen, target), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])
        if name not in first.adapters and name not in first.biases:
            assert torch.equal(value, before[0][name])
