"""The batched transformer against the model itself, and the way for networks of another form against both."""

import pytest
import torch

from lorascope import tune
from lorascope.tune import transformer
from lorascope.tune.layout import Layout
from lorascope.tune.settings import Setting, bias_names, weight_names
from tune.test_ensemble import F64, MEMBERS, adapted_names, alone, assert_state, transformer_pair

FORMS = {
    "skips": {"residual": True},
    "pre": {"residual": True, "norm": "pre"},
    "post": {"residual": True, "norm": "post"},
    "biases": {"attention_bias": True},
    "narrow heads": {"head_dim": 2},
    "wide hidden": {"ffn_dim": 7},
    "usual": {"residual": True, "norm": "pre", "attention_bias": True, "head_dim": 2, "ffn_dim": 8},
}
SIZES = [(4, 2, 1), (3, 1, 2), (1, 1, 1), (5, 3, 2)]
CASES = {f"paper's {sizes}": (sizes, {}) for sizes in SIZES}
CASES |= {f"{form} {sizes}": (sizes, FORMS[form]) for form in FORMS for sizes in [(4, 2, 1), (3, 1, 2)]}


@pytest.mark.parametrize(("sizes", "form"), CASES.values(), ids=CASES)
def test_losses_and_gradients_are_those_of_the_model(sizes, form):
    frozen, _ = transformer_pair(*sizes, F64, **form)
    assert frozen.is_paper_form == (form == {})
    names, shifts = weight_names(frozen), tuple(bias_names(frozen))
    settings = [
        Setting(seed=seed, ranks=dict.fromkeys(names[:3], seed + 1), full=tuple(names[3:]), biases=shifts)
        for seed in range(3)
    ]
    layout = Layout.of(settings)
    generator = torch.Generator().manual_seed(0)
    parameters = layout.start(frozen, settings)
    parameters = [value + 0.1 * torch.randn(value.shape, generator=generator, dtype=F64) for value in parameters]
    x, y = torch.randn(2, 6, 7, sizes[0], generator=generator, dtype=F64)
    slots = [torch.empty_like(value) for value in parameters]
    objective = transformer.TransformerGradient(frozen, layout)
    losses, held_out = objective.visit(parameters, (x, y), (y, x), into=slots)
    assert objective.visit(parameters, (x, y), losses=False)[0].isnan().all()

    leaves = [value.clone().requires_grad_() for value in parameters]
    for member in range(3):
        values = dict(frozen.named_parameters())
        for index, name in enumerate(layout.ranks):
            values[name] = values[name].detach() + leaves[3 + index][member] @ leaves[index][member]
        rest = (*layout.full, *layout.biases)
        values |= {name: leaf[member] for name, leaf in zip(rest, leaves[6:], strict=True)}
        loss = (torch.func.functional_call(frozen, values, (x,)) - y).square().mean()
        loss.backward()
        torch.testing.assert_close(losses[member], loss.detach(), rtol=1e-10, atol=1e-12)
        other = (torch.func.functional_call(frozen, values, (y,)) - x).square().mean()
        torch.testing.assert_close(held_out[member], other.detach(), rtol=1e-10, atol=1e-12)
    for slot, leaf in zip(slots, leaves, strict=True):
        torch.testing.assert_close(slot, leaf.grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_members_of_other_forms_are_the_plain_loop_and_what_they_are_alone(form):
    frozen, target = transformer_pair(4, 2, 2, F64, **form)
    call = {"steps": 8, "batch": 4}
    together = tune.ensemble(frozen, target, MEMBERS, **call, generator=torch.Generator().manual_seed(9))
    for member, one in zip(MEMBERS, together, strict=True):
        best, *_ = alone(frozen, target, member, 8 if member.rank or member.tune_bias else 0, 4, (10, 4))
        assert_state(one.model, best, 1e-9)
        assert set(one.adapters) == set(adapted_names(frozen, member.rank))
        (single,) = tune.ensemble(frozen, target, [member], **call, generator=torch.Generator().manual_seed(9))
        assert_state(single.model, one.model.state_dict(), 1e-10)
