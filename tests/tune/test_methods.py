"""LoRA and what it is compared with: grids, ranks by weight, finite samples, and everything that is refused."""

import pytest
import torch

from lorascope import tune
from lorascope.errors import RankError, ShapeError, SpecError
from lorascope.models import FNN, TransformerNetwork
from lorascope.tune.batches import Batches
from tune.test_ensemble import F32, F64, fnn_pair, transformer_pair

BRIEF = {"steps": 30, "batch": 32}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def error(model, target, x):
    with torch.no_grad():
        return float((model(x) - target(x)).square().mean())


def test_the_grid_returns_the_run_of_the_lowest_held_out_loss():
    frozen, target = fnn_pair(4, 2, 1, F32)
    seen = []
    grid = {"lr": [1e-4, 1e-2, 1e-3], "weight_decay": [0.0, 1.0]}
    found = tune.lora(
        frozen, target, 2, **grid, **BRIEF, generator=seeded(), observe=lambda _, losses: seen.append(losses)
    )
    assert found.method == "adam lora, lr 0.01"
    assert len(seen) == 31
    assert torch.stack(seen).min(dim=0).values.argmin() == 2  # lr outer, weight decay inner
    alone = tune.lora(frozen, target, 2, lr=1e-2, **BRIEF, generator=seeded())
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(found.model.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    decayed = tune.lora(frozen, target, 2, lr=1e-2, weight_decay=1.0, **BRIEF, generator=seeded())
    assert decayed.method == "adam lora, lr 0.01, weight decay 1"


def test_ranks_by_weight_and_any_weight_of_a_transformer():
    frozen, target = fnn_pair(4, 3, 1, F64)
    found = tune.lora(frozen, target, ranks={"layers.0.weight": 1, "layers.2.weight": 6, "layers.1.weight": 0}, **BRIEF)
    assert {name: adapter.rank for name, adapter in found.adapters.items()} == {
        "layers.0.weight": 1,
        "layers.2.weight": 6,
    }
    frozen, target = transformer_pair(3, 2, 2, F64)
    found = tune.lora(frozen, target, ranks={"blocks.0.ffn_in.weight": 2, "blocks.1.key": 1}, **BRIEF)
    assert {name: adapter.rank for name, adapter in found.adapters.items()} == {
        "blocks.0.ffn_in.weight": 2,
        "blocks.1.key": 1,
    }
    assert set(found.biases) == {f"blocks.{i}.ffn_{place}.bias" for i in (0, 1) for place in ("in", "out")}


@pytest.mark.parametrize("pair", [fnn_pair(4, 3, 1, F64), transformer_pair(3, 2, 2, F64)])
def test_last_layers_are_trained_whole_and_the_others_stay(pair):
    frozen, target = pair
    early = "layers.0" if isinstance(frozen, FNN) else "blocks.0"
    x = torch.randn(200, *((4,) if isinstance(frozen, FNN) else (10, 3)), dtype=F64, generator=seeded(5))
    found = tune.last_layers(frozen, target, frozen.depth - 1, lr=1e-2, **BRIEF)
    for name, value in found.model.state_dict().items():
        assert torch.equal(value, frozen.state_dict()[name]) == name.startswith(early), name
    assert error(found.model, target, x) < error(frozen, target, x)
    assert found.method == f"adam last {frozen.depth - 1} layers, lr 0.01"
    nothing = tune.last_layers(frozen, target, 0, **BRIEF)
    assert nothing.adapters == nothing.biases == {}


def test_full_and_biases_train_what_they_say():
    frozen, target = fnn_pair(4, 2, 1, F64)
    x = torch.randn(200, 4, dtype=F64, generator=seeded(5))
    whole, shifted = tune.full(frozen, target, lr=1e-2, **BRIEF), tune.biases(frozen, target, lr=1e-2, **BRIEF)
    assert set(whole.adapters) | set(whole.biases) == set(frozen.state_dict())
    assert set(shifted.biases) == {"layers.0.bias", "layers.1.bias"}
    assert error(whole.model, target, x) < error(shifted.model, target, x) < error(frozen, target, x)


def test_full_in_a_transformer_is_the_plain_loop():
    frozen, target = transformer_pair(3, 2, 1, F64)
    generator = seeded(2)
    found = tune.full(frozen, target, steps=10, batch=4, generator=seeded(2), validate_every=0)
    torch.randint(2**62, (), generator=generator)
    batches = [torch.randn(4, 10, 3, dtype=F64, generator=generator) for _ in range(11)]
    model = TransformerNetwork(3, 2, 1)
    model.load_state_dict(frozen.state_dict())
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x in batches[1:]:
        optimiser.zero_grad()
        (model(x) - target(x).detach()).square().mean().backward()
        optimiser.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found.model.state_dict()[name], value, rtol=1e-9, atol=1e-9)


def test_finite_samples_are_gone_through_in_a_new_order_each_time():
    frozen, target = fnn_pair(2, 1, 1, F64)
    samples = torch.arange(14, dtype=F64).reshape(7, 2)
    batches = Batches(frozen, target, 3, samples, None, seeded())
    assert torch.equal(batches.validation[0], samples)
    torch.testing.assert_close(batches.validation[1], target(samples).detach())
    rows = torch.cat([inputs for inputs, _ in batches.draw(14)])
    rounds = rows[:, 0].reshape(6, 7)
    assert all(sorted(once.tolist()) == samples[:, 0].tolist() for once in rounds)
    assert len({tuple(once.tolist()) for once in rounds}) > 1
    large = Batches(frozen, target, 16, samples, None, seeded()).draw(1)[0][0]
    assert len(large) == 16


def test_fresh_batches_differ_and_come_from_the_sampler_where_there_is_one():
    frozen, target = fnn_pair(2, 1, 1, F32)
    drawn = Batches(frozen, target, 3, None, None, seeded())
    inputs = [drawn.validation[0], *(pair[0] for pair in drawn.draw(40))]
    assert len({tuple(x.flatten().tolist()) for x in inputs}) == 41
    calls = []

    def sampler(number):
        calls.append(number)
        return torch.full((number, 2), float(len(calls)))

    given = Batches(frozen, target, 3, None, sampler, seeded())
    assert [float(x[0, 0]) for x, _ in given.draw(3)] == [2.0, 3.0, 4.0]
    assert calls == [3] * 4


def test_training_on_samples_far_away_is_training_there():
    frozen, target = fnn_pair(3, 2, 1, F64)
    far = 5 + torch.randn(64, 3, dtype=F64, generator=seeded(1))
    found = tune.lora(frozen, target, 2, samples=far, lr=1e-2, steps=100, batch=32)
    assert error(found.model, target, far) < 0.5 * error(frozen, target, far)
    same = tune.lora(frozen, target, 2, sampler=lambda number: far[:number], lr=1e-2, steps=100, batch=32)
    assert error(same.model, target, far[:32]) < 0.5 * error(frozen, target, far[:32])


def test_sequences_of_any_length():
    frozen, target = transformer_pair(3, 1, 1, F64)
    tokens = torch.randn(6, 4, 3, dtype=F64, generator=seeded())
    lengths = iter([4, 4, 2, 7, 7, 7])
    found = tune.lora(
        frozen, target, 1, sampler=lambda n: tokens[:1].repeat(n, 2, 1)[:, : next(lengths)], steps=5, batch=2
    )
    assert found.adapters
    assert tune.lora(frozen, target, 1, samples=tokens, steps=5, batch=4).adapters


def test_progress_is_told_to_the_end():
    frozen, target = fnn_pair(3, 2, 1, F32)
    told = []
    tune.lora(frozen, target, 1, steps=70, batch=4, progress=lambda share, text: told.append((share, text)))
    assert [share for share, _ in told] == [32 / 70, 64 / 70, 1.0]
    assert told[-1][1] == "1 runs, step 70 of 70"


def changing(number, sizes=iter([3] * 3 + [2] * 100)):  # noqa: B008
    return torch.ones(number, next(sizes))


WRONG = {
    "rate of words": (SpecError, "lr must be a finite number above 0, got 'fast'", {"lr": "fast"}),
    "rates of words": (SpecError, "lr.*'fast'", {"lr": [1e-3, "fast"]}),
    "no rates": (SpecError, "lr must be.*or several, got none", {"lr": []}),
    "rate 0": (SpecError, "lr must be a finite number above 0, got 0", {"lr": [0.0]}),
    "negative rate": (SpecError, "lr.*-0.1", {"lr": -0.1}),
    "infinite rate": (SpecError, "lr.*inf", {"lr": float("inf")}),
    "negative decay": (SpecError, "weight_decay must be a finite number of at least 0", {"weight_decay": [-1.0]}),
    "negative steps": (SpecError, "steps must be an integer of at least 0, got -1", {"steps": -1}),
    "half a step": (SpecError, "steps.*0.5", {"steps": 0.5}),
    "empty batch": (SpecError, "batch must be an integer of at least 1, got 0", {"batch": 0}),
    "NaN samples": (SpecError, "samples must be finite", {"samples": torch.full((4, 3), torch.nan)}),
    "no samples": (SpecError, r"at least one.*\(0, 3\)", {"samples": torch.ones(0, 3)}),
    "samples of another width": (ShapeError, r"\(number, 3\), got \(4, 2\)", {"samples": torch.ones(4, 2)}),
    "a sampler of another width": (ShapeError, r"\(number, 3\).*2\)", {"sampler": lambda n: torch.ones(n, 2)}),
    "a sampler that changes": (ShapeError, r"\(number, 3\), got \(16, 2\)", {"sampler": changing}),
    "a sampler of another number": (ShapeError, "16 samples.*got 5", {"sampler": lambda _: torch.ones(5, 3)}),
    "both": (SpecError, "got both", {"samples": torch.ones(4, 3), "sampler": changing}),
    "no rank": (RankError, "got neither", {"rank": None}),
}


@pytest.mark.parametrize(("error_", "words", "changes"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_quoted(error_, words, changes, unchecked_annotations):
    arguments = {"rank": 1, "steps": 6, "batch": 16} | changes
    with pytest.raises(error_, match=words):
        tune.lora(FNN(3, 2), FNN(3, 1), **arguments)


def test_more_last_layers_than_there_are():
    with pytest.raises(SpecError, match="at most the frozen model's depth 2, got 3"):
        tune.last_layers(FNN(3, 2), FNN(3, 1), 3)


def test_linear_networks_without_biases():
    generator = seeded()
    frozen, target = (FNN(4, depth, "identity", bias=False, generator=generator) for depth in (2, 1))
    found = tune.lora(frozen, target, 4, lr=1e-2, steps=400, batch=32)
    x = torch.randn(200, 4, dtype=F64, generator=generator)
    assert error(found.model, target, x) < 1e-2 * error(frozen, target, x)
    assert found.biases == {}
    nothing = tune.biases(frozen, target, steps=3)
    assert nothing.adapters == nothing.biases == {}
    assert all(torch.equal(v, frozen.state_dict()[name]) for name, v in nothing.model.state_dict().items())
