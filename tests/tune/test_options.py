"""Objectives, optimisers, starts and held-out inputs: a member is still the plain loop it would be alone."""

import inspect

import pytest
import torch

import lorascope as ls
from lorascope import construct, tune
from lorascope.errors import RankError, ShapeError, SpecError
from lorascope.models import FNN, TransformerNetwork
from lorascope.optim import OBJECTIVES
from lorascope.tune.batches import Batches
from lorascope.tune.keywords import How, Keywords, Steps
from reference.objectives import by_torch
from tune.alone import draws, lora_alone
from tune.test_ensemble import F32, F64, adapted_names, alone, assert_state, fnn_pair, transformer_pair

OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
RANDOM = tune.Start("random")
MEMBERS = [
    tune.Member(1, 1e-3, 0.1),
    tune.Member(3, 1e-3, 1e-2, seed=4, lr_ratio=8.0),
    tune.Member(2, 1e-4, 3.0, seed=7, lr_ratio=8.0, start=RANDOM),
    tune.Member(2, 1e-3, seed=7, start=RANDOM),
    tune.Member(3, 1e-4, tune_bias=False, lr_ratio=0.5),
]


def seeded(seed=9):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("optimizer", OPTIMISERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(F32, 1e-5), (F64, 1e-10)])
def test_members_are_the_plain_loop_over_50_steps(objective, optimizer, dtype, tolerance):
    frozen, target = fnn_pair(4, 2, 1, dtype)
    seen = []
    found = tune.ensemble(
        frozen,
        target,
        MEMBERS,
        50,
        16,
        seeded(),
        objective=objective,
        optimizer=optimizer,
        observe=lambda _, losses: seen.append(losses),
    )
    options = {"objective": objective, "optimiser": OPTIMISERS[optimizer]}
    for index, (member, one) in enumerate(zip(MEMBERS, found, strict=True)):
        best, _, losses = alone(frozen, target, member, 50, 16, (4,), **options)
        assert_state(one.model, best, tolerance)
        assert [float(row[index]) for row in seen] == pytest.approx(losses, rel=100 * tolerance, abs=tolerance)
        assert one.method.startswith(f"{optimizer} lora, lr {member.lr:g}")
        assert (objective in one.method) == (objective != "mse")
        assert ("KL" in one.certificate.conditions[0]) == (objective != "mse")


@pytest.mark.parametrize("form", [{}, {"residual": True, "norm": "pre", "attention_bias": True, "ffn_dim": 6}])
@pytest.mark.parametrize("objective", ["classification", "binary"])
def test_so_are_transformers_of_every_form(objective, form):
    frozen, target = transformer_pair(4, 2, 2, F64, **form)
    found = tune.ensemble(frozen, target, MEMBERS, 6, 3, seeded(), objective=objective, optimizer="adamw")
    for member, one in zip(MEMBERS, found, strict=True):
        best, *_ = alone(frozen, target, member, 6, 3, (10, 4), objective=objective, optimiser=torch.optim.AdamW)
        assert_state(one.model, best, 1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("method", [tune.full, tune.biases, lambda *a, **k: tune.last_layers(*a, 1, **k)])
def test_every_method_lowers_what_it_is_told_to(objective, method):
    frozen, target = fnn_pair(4, 2, 1, F64)
    x = torch.randn(100, 4, dtype=F64, generator=seeded(5))
    found = method(frozen, target, objective=objective, lr=1e-2, steps=60, batch=32)
    with torch.no_grad():
        before, after = (float(by_torch(model(x), target(x), objective)) for model in (frozen, found.model))
    assert after < before


def test_adapted_exactly_every_objective_is_zero():
    frozen, _ = fnn_pair(4, 2, 2, F64)
    for objective in OBJECTIVES:
        seen = []
        tune.lora(frozen, frozen, 1, objective=objective, steps=1, observe=lambda _, rows: seen.append(rows))  # noqa: B023
        assert 0 <= seen[0] < 1e-20  # and no longer, for Adam makes a step of a gradient of any size


def test_halves_need_an_even_width():
    with pytest.raises(SpecError, match=r'"binary".*even, got 3; pad the models to 4'):
        tune.lora(FNN(3, 2), FNN(3, 1), 1, objective="binary", steps=1)
    with pytest.raises(SpecError, match="even, got 3"):
        tune.ensemble(
            TransformerNetwork(3, 1, 1), TransformerNetwork(3, 1, 1), [tune.Member(1, 1e-3)], 1, objective="binary"
        )


def near(adaptation, noise=0.0):
    return tune.Start("near", adaptation, noise)


def test_a_start_near_an_exact_adaptation_is_exact_and_noise_has_its_size():
    frozen, target = fnn_pair(4, 2, 1, F64)
    exact = construct.stable(frozen, target, 2)
    members = [
        tune.Member(2, 1e-3, start=near(exact)),
        tune.Member(4, 1e-3, start=near(exact)),
        tune.Member(2, 1e-3, seed=1, start=near(exact, 0.1)),
    ]
    whole, padded, noisy = tune.ensemble(frozen, target, members, 0, 8)
    x = torch.randn(50, 4, dtype=F64, generator=seeded())
    for one in (whole, padded):
        torch.testing.assert_close(one.model(x), target(x), rtol=1e-9, atol=1e-9)
    # ranks that the adaptation does not use are there to be trained
    assert padded.adapters["layers.0.weight"].A[2:].all()
    for name, adapter in exact.adapters.items():
        for part in ("A", "B"):
            before, after = getattr(adapter, part), getattr(noisy.adapters[name], part)
            change = (after - before).square().mean().sqrt() / before.square().mean().sqrt()
            assert 0.03 < float(change) < 0.3
    (again,) = tune.ensemble(frozen, target, members[2:], 0, 8)
    assert torch.equal(again.adapters["layers.1.weight"].B, noisy.adapters["layers.1.weight"].B)


def test_steps_from_near_the_construction_end_lower_than_from_zero():
    frozen, target = fnn_pair(8, 2, 1, F64)
    exact = construct.stable(frozen, target, 4, domain=ls.Ball(6.0))
    starts = [near(exact, 1e-2), tune.Start()]
    members = [tune.Member(4, 1e-3, start=start) for start in starts]
    last = []
    tune.ensemble(frozen, target, members, 100, 64, seeded(), observe=lambda _, losses: last.append(losses))
    assert last[0][0] < last[0][1]
    assert last[-1][0] < last[-1][1]


def test_lora_takes_a_start_and_a_ratio_too():
    frozen, target = fnn_pair(4, 2, 1, F64)
    options = {"steps": 5, "batch": 8, "lr": 1e-3, "lr_ratio": 4.0, "start": RANDOM, "optimizer": "adamw"}
    found = tune.lora(frozen, target, 2, weight_decay=0.5, generator=seeded(), **options)
    source = seeded()
    seed = int(torch.randint(2**62, (), generator=source))
    member = tune.Member(2, 1e-3, 0.5, seed=seed, lr_ratio=4.0, start=RANDOM)
    held_out, pairs = draws(source, (4,), 8, 5, target, F64, 4)
    names, biases = adapted_names(frozen, 2), ["layers.0.bias", "layers.1.bias"]
    best, *_ = lora_alone(frozen, target, member, names, biases, 5, pairs, held_out, optimiser=torch.optim.AdamW)
    assert_state(found.model, best, 1e-10)
    assert found.method == "adamw lora, lr 0.001, of B 4 times that, weight decay 0.5"


def test_held_out_inputs_decide_and_are_not_trained_on():
    frozen, target = fnn_pair(3, 2, 1, F64)
    near_, far = (shift + torch.randn(40, 3, dtype=F64, generator=seeded(shift)) for shift in (0, 4))
    batches = Batches(frozen, target, 8, near_, None, seeded(), held_out=far)
    assert torch.equal(batches.validation[0], far)
    torch.testing.assert_close(batches.validation[1], target(far).detach())
    rows = torch.cat([inputs for inputs, _ in batches.draw(20)])
    assert {tuple(row) for row in rows.tolist()} == {tuple(row) for row in near_.tolist()}

    seen = []
    call = {"samples": near_, "steps": 20, "batch": 8, "generator": seeded()}
    found = tune.lora(
        frozen, target, 2, lr=[1e-2, 1e-4], held_out=far, observe=lambda _, losses: seen.append(losses), **call
    )
    with torch.no_grad():
        assert float(seen[0][0]) == pytest.approx(float((frozen(far) - target(far)).square().mean()))
        at_best = float((found.model(far) - target(far)).square().mean())
    assert at_best == pytest.approx(float(torch.stack(seen).min()))


def test_fresh_batches_with_held_out_inputs_draw_none_for_that():
    frozen, target = fnn_pair(2, 1, 1, F64)
    batches = Batches(frozen, target, 3, None, None, seeded(), held_out=torch.ones(5, 2))
    first = torch.randn(3, 2, dtype=F64, generator=seeded())
    assert torch.equal(batches.draw(1)[0][0], first)


EXACT = construct.stable(FNN(4, 2, generator=seeded(0)), FNN(4, 1, generator=seeded(1)), 2)
FAULTS = {
    "objective": (SpecError, "objective must be one of mse, .*'hinge'", {"objective": "hinge"}),
    "optimiser": (SpecError, "optimizer must be one of adam, adamw, got 'sgd'", {"optimizer": "sgd"}),
    "ratio": (SpecError, "lr_ratio must be a finite number above 0, got 0", {"lr_ratio": 0.0}),
    "several ratios": (SpecError, "lr_ratio.*got \\[1", {"lr_ratio": [1.0, 2.0]}),
    "start": (SpecError, "start must be a tune.Start, got 'zero'", {"start": "zero"}),
    "held out width": (ShapeError, r"held_out must be \(number, 4\), got \(2, 3\)", {"held_out": torch.ones(2, 3)}),
    "held out NaN": (SpecError, "held_out must be finite", {"held_out": torch.full((2, 4), torch.nan)}),
    "start of more rank": (RankError, "rank 2 in layers.0.weight, the run 1", {"rank": 1, "start": near(EXACT)}),
    "start of more biases": (SpecError, r"layers.0.bias.*does not train", {"tune_bias": False, "start": near(EXACT)}),
    "start of another model": (
        ShapeError,
        r"layers.0.weight of shape \(5, 5\), the frozen model \(4, 4\)",
        {"start": near(construct.stable(FNN(5, 2), FNN(5, 1), 2))},
    ),
    "start of more layers": (
        SpecError,
        r"layers.2.weight.*does not train",
        {"start": near(construct.stable(FNN(4, 3), FNN(4, 1), 2))},
    ),
}


@pytest.mark.parametrize(("error", "words", "changes"), FAULTS.values(), ids=FAULTS)
def test_wrong_options_are_quoted(error, words, changes, unchecked_annotations):
    arguments = {"rank": 2, "steps": 1, "batch": 4} | changes
    with pytest.raises(error, match=words):
        tune.lora(FNN(4, 2), FNN(4, 1), **arguments)


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("kind of start must be one of zero, random, near, got 'far'", ("far",)),
        ("if and only if.*'near' and none", ("near",)),
        ("if and only if.*'zero' and one", ("zero", EXACT)),
        ("finite number of at least 0, got -1", ("near", EXACT, -1.0)),
        ("finite number of at least 0, got nan", ("near", EXACT, float("nan"))),
        ("for the kind \"near\", got 0.5 for 'random'", ("random", None, 0.5)),
    ],
)
def test_wrong_starts_are_quoted(words, arguments, unchecked_annotations):
    with pytest.raises(SpecError, match=words):
        tune.Start(*arguments)


def test_keywords_are_shown_with_their_defaults_and_unknown_ones_refused():
    for method in (tune.lora, tune.full, tune.last_layers, tune.biases, tune.ensemble):
        shown = inspect.signature(method).parameters
        names = set(Keywords.__annotations__ if method is tune.ensemble else Steps.__annotations__ | {})
        assert names <= set(shown)
        assert not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in shown.values())
        assert shown["steps"].default == How().steps == 5000
        assert shown["objective"].default == "mse"
    assert set(How.__dataclass_fields__) == set(inspect.get_annotations(Steps)) | set(inspect.get_annotations(Keywords))
    with pytest.raises(TypeError, match="validate_evry"):
        tune.lora(FNN(2, 1), FNN(2, 1), 1, validate_evry=2)
