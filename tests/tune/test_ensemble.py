"""A member of an ensemble is the run it would be alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lorascope as ls
from lorascope import tune
from lorascope.errors import RankError, ShapeError, SpecError
from lorascope.models import FNN, TransformerNetwork
from lorascope.tune import runs
from tune.alone import draws, lora_alone

F32, F64 = torch.float32, torch.float64


def fnn_pair(width, depth, target_depth, dtype, seed=0, activation="relu", narrow=None):
    generator = torch.Generator().manual_seed(seed)
    frozen = FNN(width, depth, activation, generator=generator, dtype=dtype)
    return frozen, FNN(narrow or width, target_depth, activation, generator=generator, dtype=dtype)


def transformer_pair(width, heads, depth, dtype, seed=0, **form):
    generator = torch.Generator().manual_seed(seed)
    pair = [TransformerNetwork(width, heads, depth, generator=generator, dtype=dtype, **form) for _ in range(2)]
    with torch.no_grad():
        for model in pair:
            for block in model.layers:
                for weight in (block.query, block.key, block.value, block.out):
                    weight.mul_(width**-0.5)
    return pair


def adapted_names(frozen, rank):
    if isinstance(frozen, FNN):
        return {f"layers.{index}.weight": rank for index in range(frozen.depth)} if rank else {}
    names = [f"blocks.{index}.{name}" for index in range(frozen.depth) for name in ("query", "key", "value", "out")]
    names += [f"blocks.{frozen.depth - 1}.ffn_out.weight", "output.weight"]
    order = [name for name, _ in frozen.named_parameters() if name in names]
    return dict.fromkeys(order, rank) if rank else {}


def alone(frozen, target, member, steps, batch, shape, **options):
    width = next(frozen.parameters()).shape[-1]
    dtype = next(frozen.parameters()).dtype
    held_out, pairs = draws(torch.Generator().manual_seed(9), shape, batch, steps, target, dtype, width)
    names = [name for name, _ in frozen.named_parameters() if name.endswith("bias") and "norm" not in name]
    biases = names if member.tune_bias else []
    return lora_alone(
        frozen, target, member, adapted_names(frozen, member.rank), biases, steps, pairs, held_out, **options
    )


def assert_state(model, wanted, tolerance):
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.detach(), wanted[name], rtol=tolerance, atol=tolerance)


MEMBERS = [
    tune.Member(1, 1e-3),
    tune.Member(3, 1e-3, 1e-2, seed=4),
    tune.Member(5, 1e-4, tune_bias=False),
    tune.Member(0, 1e-3),
    tune.Member(0, 1e-3, tune_bias=False),
    tune.Member(2, 1e-4, 0.3, seed=2**40),
]


@pytest.mark.parametrize(("dtype", "tolerance"), [(F32, 1e-5), (F64, 1e-11)])
@pytest.mark.parametrize("pair", [(4, 2, 1), (4, 4, 2), (4, 1, 1)])
@pytest.mark.parametrize("validate_every", [0, 1])
def test_fnn_members_are_the_plain_loop_over_50_steps(dtype, tolerance, pair, validate_every):
    frozen, target = fnn_pair(*pair, dtype)
    seen = []
    found = tune.ensemble(
        frozen,
        target,
        MEMBERS,
        50,
        32,
        torch.Generator().manual_seed(9),
        validate_every,
        observe=lambda step, losses: seen.append((step, losses.tolist())),
    )
    assert [step for step, _ in seen] == (list(range(51)) if validate_every else [50])
    for index, (member, one) in enumerate(zip(MEMBERS, found, strict=True)):
        best, last, losses = alone(frozen, target, member, 50 if member.rank or member.tune_bias else 0, 32, (4,))
        assert_state(one.model, best if validate_every else last, tolerance)
        if len(losses) == 51:
            wanted = losses if validate_every else losses[-1:]
            assert [values[index] for _, values in seen] == pytest.approx(wanted, rel=100 * tolerance)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(("dtype", "tolerance"), [(F32, 1e-3), (F64, 1e-9)])
def test_transformer_members_are_the_plain_loop(dtype, tolerance, depth):
    frozen, target = transformer_pair(4, 2, depth, dtype)
    generator = torch.Generator().manual_seed(9)
    found = tune.ensemble(frozen, target, MEMBERS, 20, 8, generator)
    for member, one in zip(MEMBERS, found, strict=True):
        best, *_ = alone(frozen, target, member, 20 if member.rank or member.tune_bias else 0, 8, (10, 4))
        assert_state(one.model, best, tolerance)
        assert set(one.adapters) == set(adapted_names(frozen, member.rank))
        assert all(adapter.rank == member.rank for adapter in one.adapters.values())


@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.sampled_from(["relu", "identity"]),
    st.integers(0, 2**31),
    st.lists(
        st.builds(
            tune.Member,
            st.integers(0, 8),
            st.sampled_from([1e-2, 1e-3, 1e-4]),
            st.sampled_from([0.0, 1e-2]),
            st.booleans(),
            st.integers(0, 5),
        ),
        min_size=1,
        max_size=5,
    ),
    st.data(),
)
@settings(max_examples=25)
def test_any_members_of_any_network_are_the_plain_loop(width, depth, activation, seed, members, data):
    target_depth, narrow = data.draw(st.integers(1, depth)), data.draw(st.integers(1, width))
    frozen, target = fnn_pair(width, depth, target_depth, F64, seed, activation, narrow)
    found = tune.ensemble(frozen, target, members, 6, 5, torch.Generator().manual_seed(9))
    for member, one in zip(members, found, strict=True):
        steps = 6 if member.rank or member.tune_bias else 0
        best, *_ = alone(frozen, target, member, steps, 5, (narrow,))
        assert_state(one.model, best, 1e-9)


@pytest.mark.parametrize("together", [5, 100])
def test_many_members_are_what_each_is_alone_whatever_the_company(together, monkeypatch):
    monkeypatch.setattr(runs, "fitting", lambda *_: together)  # in several groups, and all in one
    frozen, target = fnn_pair(3, 2, 1, F64)
    members = [tune.Member(rank, lr, seed=rank) for rank in range(4) for lr in (1e-2, 1e-3)] * 2
    found = tune.ensemble(frozen, target, members, 40, 16, torch.Generator().manual_seed(1))
    for index in (0, 3, 10, 15):
        (alone_,) = tune.ensemble(frozen, target, [members[index]], 40, 16, torch.Generator().manual_seed(1))
        assert_state(found[index].model, alone_.model.state_dict(), 1e-10)
        assert found[index].method == alone_.method


def test_the_same_call_gives_the_same_bits_and_leaves_everything_else_alone():
    for pair in (fnn_pair(4, 2, 1, F32), transformer_pair(3, 2, 1, F32)):
        frozen, target = pair
        before = [{name: value.clone() for name, value in model.state_dict().items()} for model in pair]
        found = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            state = torch.get_rng_state()
            found.append(tune.ensemble(frozen, target, MEMBERS, 5, 8, torch.Generator().manual_seed(3)))
            assert torch.equal(torch.get_rng_state(), state)
        for one, other in zip(*found, strict=True):
            assert all(torch.equal(value, other.model.state_dict()[k]) for k, value in one.model.state_dict().items())
            assert one.certificate == other.certificate
        for model, values in zip(pair, before, strict=True):
            assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
            assert all(parameter.grad is None for parameter in model.parameters())


def test_no_steps_gives_the_frozen_function():
    frozen, target = fnn_pair(4, 2, 1, F64)
    (one,) = tune.ensemble(frozen, target, [tune.Member(2, 1e-3)], 0, 8)
    x = torch.randn(5, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(one.model(x), frozen(x))
    assert not one.adapters["layers.0.weight"].B.any()


def test_a_run_that_diverges_keeps_what_was_best():
    frozen, target = fnn_pair(4, 2, 1, F32)
    for validate_every in (0, 1):
        (one,) = tune.ensemble(frozen, target, [tune.Member(2, 1e30)], 20, 8, validate_every=validate_every)
        assert all(torch.isfinite(value).all() for value in one.model.state_dict().values())
        assert torch.isfinite(torch.tensor(one.certificate.error_bound))


WRONG = {
    "no members": (SpecError, r"members.*got \[\]", lambda: {"members": []}),
    "no Member": (SpecError, r"tune\.Member.*\[3\]", lambda: {"members": [3]}),
    "rank": (RankError, "rank.*-1", lambda: {"members": [tune.Member(-1, 1e-3)]}),
    "rank not an integer": (RankError, "rank.*1.5", lambda: {"members": [tune.Member(1.5, 1e-3)]}),
    "rate": (SpecError, "lr must be a finite number above 0, got 0", lambda: {"members": [tune.Member(1, 0.0)]}),
    "rate NaN": (SpecError, "lr.*nan", lambda: {"members": [tune.Member(1, float("nan"))]}),
    "decay": (SpecError, "weight_decay.*at least 0, got -1", lambda: {"members": [tune.Member(1, 1e-3, -1.0)]}),
    "seed": (SpecError, "seed.*-3", lambda: {"members": [tune.Member(1, 1e-3, seed=-3)]}),
    "steps": (SpecError, "steps must be an integer of at least 0, got -1", lambda: {"steps": -1}),
    "batch": (SpecError, "batch must be an integer of at least 1, got 0", lambda: {"batch": 0}),
    "validation": (SpecError, "validate_every.*-2", lambda: {"validate_every": -2}),
    "deeper target": (ShapeError, "no deeper", lambda: {"target": FNN(4, 3)}),
}


@pytest.mark.parametrize(("error", "words", "changes"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_quoted(error, words, changes, unchecked_annotations):
    arguments = {"target": FNN(4, 1), "members": [tune.Member(1, 1e-3)], "steps": 1} | changes()
    with pytest.raises(error, match=words):
        tune.ensemble(FNN(4, 2), **arguments)


def test_certificates_hold_on_the_whole_domain():
    domain = ls.Ball(2.0)
    for pair in (fnn_pair(4, 2, 2, F64), fnn_pair(4, 3, 1, F64), transformer_pair(3, 1, 1, F64)):
        frozen, target = pair
        found = tune.ensemble(frozen, target, MEMBERS[:2], 20, 16, domain=domain)
        for one in found:
            assert one.certificate.domain == domain
            assert not one.certificate.exact
            assert "held-out" in one.certificate.conditions[0]


def test_threads_are_as_before():
    frozen, target = fnn_pair(3, 2, 1, F32)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        tune.ensemble(frozen, target, MEMBERS[:1], 1, 4)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
