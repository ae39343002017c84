"""Tasks, shifts, few inputs, curves and starts: what such cells measure, computed again on another way."""

import copy
from itertools import pairwise

import pytest
import torch

from experiments.tiny import TINY
from lorascope import construct, tune
from lorascope.errors import SpecError
from lorascope.experiments import cell, draw_pair, grid, load_suite, parse_suite
from lorascope.experiments.cells.data import curve_steps, training_inputs
from lorascope.experiments.cells.labels import accuracy, named
from lorascope.experiments.networks import fresh_inputs
from lorascope.records import cell_seed
from lorascope.tune import runs
from reference.objectives import LOSSES, halves

SMOKE = {key: value for key, value in TINY["scales"]["smoke"].items() if key != "layers"}


def suite_of(scale=(), **keys):
    content = TINY | {"methods": ["gradient"], "inits": ["random"]} | keys
    return parse_suite(content | {"scales": {"smoke": SMOKE | {"seeds": [0]} | dict(scale)}}, "tiny")


def cells_of(scale=(), **keys):
    return grid(suite_of(scale, **keys), "smoke")


@pytest.fixture
def trained(monkeypatch):
    """Every call of ``tune.ensemble`` from here on: its arguments and what came out."""
    calls, whole = [], tune.ensemble

    def noted(*arguments, **options):
        found = whole(*arguments, **options)
        calls.append((arguments, options, found))
        return found

    monkeypatch.setattr(tune, "ensemble", noted)
    return calls


def best_models(spec, rows, call):
    """Of a gradient cell, the networks of the rates that its rows name."""
    rates = [(lr, decay) for lr in spec["lr"] for decay in spec["weight_decay"]]
    for index, row in enumerate(rows):
        place = index * len(rates) + rates.index((row["metrics"]["lr"], row["metrics"]["weight_decay"]))
        yield call[2][place].model.double()


def share_alike(task, model, target, inputs):
    """One input after the other."""
    same = 0
    for x in inputs:
        with torch.no_grad():
            scores = [model(x).tolist(), target(x).tolist()]
        if task == "binary":
            scores = [halves(one) for one in scores]
        first, second = (max(range(len(one)), key=one.__getitem__) for one in scores)
        same += first == second
    return same / len(inputs)


def assert_measured(task, metrics, model, target, inputs, suffix=""):
    with torch.no_grad():
        outputs, wanted = model(inputs), target(inputs)
    assert metrics[f"test_mse{suffix}"] == pytest.approx(float(((outputs - wanted) ** 2).mean()))
    if task != "regression":
        assert metrics[f"test_accuracy{suffix}"] == pytest.approx(share_alike(task, model, target, inputs))
        assert metrics[f"test_kl{suffix}"] == pytest.approx(float(LOSSES[task](outputs, wanted)), rel=1e-6, abs=1e-12)
        # neither is the network perfect nor the measure blind
        assert 0 < metrics[f"test_accuracy{suffix}"] < 1
        assert metrics[f"test_kl{suffix}"] > 1e-6


@pytest.mark.parametrize("task", ["classification", "binary"])
@pytest.mark.parametrize("shift", [None, 5.0])
def test_accuracy_and_divergence_are_those_of_loops_over_inputs(task, shift, trained):
    keys = {"tasks": [task]} | ({} if shift is None else {"shift": shift})
    for spec in cells_of({"test_inputs": 60, "ranks": [1], "seeds": [1]}, methods=["gradient", "stable"], **keys):
        assert spec["task"] == task
        (row,) = cell(spec)
        frozen, target = draw_pair(spec)
        if spec["method"] == "gradient":
            assert trained[0][1]["objective"] == task
            assert "validation_mse" not in row["metrics"]
            assert row["metrics"]["validation_kl"] == pytest.approx(row["metrics"]["test_kl"], rel=2)
            (model,) = best_models(spec, [row], trained[0])
        else:
            model = construct.stable(frozen, target, 1).model
        inputs = fresh_inputs(spec)
        assert_measured(task, row["metrics"], model, target, inputs)
        if shift is not None:
            assert_measured(task, row["metrics"], model, target, 5 * inputs, "_shifted")
        assert any(name.endswith("_shifted") for name in row["metrics"]) == (shift is not None)


def test_exact_networks_name_every_class():
    # twice the inputs are in the constructions' ball still, whose radius is 12 for this width
    for spec in cells_of({"ranks": [2]}, methods=["paper", "stable"], tasks=["classification", "binary"], shift=2.0):
        (row,) = cell(spec)
        for suffix in ("", "_shifted"):
            assert row["metrics"][f"test_accuracy{suffix}"] == 1
            assert 0 <= row["metrics"][f"test_kl{suffix}"] < 1e-20


def test_steps_lower_the_divergence_of_their_task():
    rows = {}
    for spec in cells_of({"ranks": [2], "steps": 150}, tasks=["regression", "binary"], shift=2.0):
        rows[spec["task"]] = cell(spec)[0]["metrics"]
    assert rows["regression"]["test_mse"] < rows["binary"]["test_mse"]
    frozen, target = draw_pair(spec)
    inputs = fresh_inputs(spec)
    with torch.no_grad():
        assert rows["binary"]["test_kl"] < 0.5 * float(LOSSES["binary"](frozen(inputs), target(inputs)))


def test_other_gradient_methods_know_their_task_too():
    keys = {"methods": ["full", "biases", "last-layers"], "tasks": ["binary"]}
    for spec in cells_of({"layers": [1]}, **keys):
        (row,) = cell(spec)
        assert {"validation_kl", "test_accuracy", "test_kl", "test_mse"} <= set(row["metrics"])
    (spec,) = cells_of({"ranks": [], "allocations": [[0, 3]]}, tasks=["classification"])
    assert "test_accuracy" in cell(spec)[0]["metrics"]


def test_classes_are_named_by_the_largest_output_and_the_larger_half():
    outputs = torch.tensor([[0.0, 3.0, 1.0, 1.5], [0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    assert named("classification", outputs).tolist() == [1, 2, 0]
    assert named("binary", outputs).tolist() == [0, 1, 0]
    # zero up to rounding, beside an output of another input that says how much that is
    assert named("binary", torch.tensor([[0.0, 0.0, 0.0, 1e-14], [0.0, 0.0, 5.0, 0.0]])).tolist() == [0, 1]
    assert accuracy("binary", outputs, outputs.flip(-1)) == pytest.approx(1 / 3)
    assert accuracy("classification", outputs, torch.tensor([[0.0, 9.0, 1.0, 1.0]]).expand(3, 4)) == pytest.approx(
        1 / 3
    )


@pytest.mark.parametrize("depths", [(1, 2), (2, 4)])
def test_few_training_inputs_are_all_that_is_trained_on(depths, trained, monkeypatch):
    seen, whole = [], runs.Batches

    class Noted(whole):
        def draw(self, count):
            found = super().draw(count)
            seen.extend(inputs.clone() for inputs, _ in found)
            return found

    monkeypatch.setattr(runs, "Batches", Noted)
    target_depth, frozen_depth = depths
    keys = {"depths": [{"target": target_depth, "frozen": frozen_depth}], "train_inputs_per_layer": 400}
    (spec,) = cells_of({"steps": 60, "validate_every": 0, "ranks": [1, 2]}, **keys)
    assert spec["train_inputs"] == 400 * target_depth
    rows = cell(spec)
    distinct = {tuple(x) for x in torch.cat(seen).tolist()}
    assert len(distinct) == 400 * target_depth
    ((arguments, options, _),) = trained
    samples = options["samples"]
    assert distinct == {tuple(x) for x in samples.float().tolist()}
    # neither what decides nor what is measured on is among them
    inputs = fresh_inputs(spec)
    for others in (options["held_out"], inputs):
        assert not torch.isin(others, samples).any()
    assert not torch.isin(options["held_out"], inputs).any()
    _, target = draw_pair(spec)
    for row, model in zip(rows, best_models(spec, rows, trained[0]), strict=True):
        for name, where in (("train_mse", samples), ("test_mse", inputs)):
            with torch.no_grad():
                assert row["metrics"][name] == pytest.approx(float(((model(where) - target(where)) ** 2).mean()))
    # the last parameters, not the best: there is one look, after the last step
    assert arguments[6] == 0


def test_another_seed_has_other_training_inputs():
    first, second = cells_of({"seeds": [0, 1]}, train_inputs_per_layer=3)
    inputs = [training_inputs(spec) for spec in (first, first, second)]
    assert torch.equal(inputs[0], inputs[1])
    assert not torch.isin(inputs[0], inputs[2]).any()


def test_the_curve_is_what_an_observer_of_the_same_runs_sees(trained):
    (spec,) = cells_of({"steps": 50}, curve=True)
    rows = cell(spec)
    ((arguments, options, _),) = trained
    losses = {}
    watched = options | {"observe": lambda step, seen: losses.update({step: seen.tolist()})}
    again = list(arguments)
    again[5] = torch.Generator().manual_seed(cell_seed({"draw": "training", **spec}))
    tune.ensemble(*again, **watched)
    rates = [(lr, decay) for lr in spec["lr"] for decay in spec["weight_decay"]]
    for index, row in enumerate(rows):
        curve = {int(name.removeprefix("curve_mse@")): value for name, value in row["metrics"].items() if "@" in name}
        place = index * len(rates) + rates.index((row["metrics"]["lr"], row["metrics"]["weight_decay"]))
        assert curve == {step: pytest.approx(losses[step][place]) for step in curve}
        assert row["metrics"]["validation_mse"] == pytest.approx(min(seen[place] for seen in losses.values()))
        assert min(row["metrics"]["validation_mse"], curve[50]) == row["metrics"]["validation_mse"]
        # the best of its rank
        others = range(index * len(rates), (index + 1) * len(rates))
        lowest = {other: min(seen[other] for seen in losses.values()) for other in others}
        assert min(lowest, key=lowest.__getitem__) == place


@pytest.mark.parametrize(("steps", "every"), [(5000, 1), (1000, 1), (5000, 10), (3, 1), (1, 1)])
def test_curves_have_about_forty_points_evenly_on_a_logarithmic_axis(steps, every):
    places = curve_steps({"curve": True, "steps": steps, "validate_every": every})
    assert places == sorted(set(places))
    assert places[-1] == steps
    assert all(step % every == 0 or step == steps for step in places)
    if steps >= 1000 and every == 1:
        assert 30 <= len(places) <= 40
        assert places[0] == 1
        late = [second / first for first, second in pairwise(places) if first > 100]
        assert max(late) / min(late) < 1.05
    assert curve_steps({"steps": steps, "validate_every": every}) == []


def test_starts_differ_in_nothing_else_and_are_measured_before_any_step():
    keys = {"starts": ["zero", "random", "constructed"], "start_noise": 1e-9}
    specs = {spec["start"]: spec for spec in cells_of({"ranks": [1, 2]}, **keys)}
    assert list(specs) == ["zero", "random", "constructed"]
    assert [("start_noise" in spec) for spec in specs.values()] == [False, False, True]
    frozen, target = draw_pair(specs["zero"])
    inputs = fresh_inputs(specs["zero"])
    rows = {start: cell(spec) for start, spec in specs.items()}

    def error(model):
        with torch.no_grad():
            return float(((model(inputs) - target(inputs)) ** 2).mean())

    for index, rank in enumerate((1, 2)):
        before = {start: found[index]["metrics"]["start_mse"] for start, found in rows.items()}
        assert before["zero"] == pytest.approx(error(frozen), rel=1e-4)
        exact = construct.stable(frozen, target, rank)
        assert before["constructed"] == pytest.approx(error(exact.model), rel=1e-4, abs=1e-10)
        assert before["random"] == pytest.approx(error(random_start(specs["random"], frozen, rank)), rel=1e-4)
        assert all(row[index]["metrics"]["test_mse"] <= before[start] * 1.5 for start, row in rows.items())


def random_start(spec, frozen, rank):
    """A, then B of every layer, drawn from the member's own seed."""
    source = torch.Generator().manual_seed(cell_seed({"draw": "start", "rank": rank, "seed": spec["seed"]}))
    width = spec["width"]
    right = [0.25 * torch.randn(rank, width, generator=source) for _ in frozen.linears]
    left = [0.25 * torch.randn(width, rank, generator=source) for _ in frozen.linears]
    frozen = copy.deepcopy(frozen)
    with torch.no_grad():
        for layer, a, b in zip(frozen.linears, right, left, strict=True):
            layer.weight += (b @ a).double()
    return frozen


def test_noise_moves_the_constructed_start():
    errors = []
    for noise in (1e-9, 0.3):
        (spec,) = cells_of({"ranks": [2]}, starts=["constructed"], start_noise=noise)
        errors.append(cell(spec)[0]["metrics"]["start_mse"])
    assert errors[0] < 1e-9
    assert errors[1] > 1e-6


@pytest.mark.parametrize(
    ("scale", "keys", "part"),
    [
        ({}, {"tasks": ["ranking"]}, "tasks[0]: input should be 'regression', 'classification' or 'binary'"),
        ({}, {"tasks": []}, "tasks: list should have at least 1 item"),
        ({}, {"width": 5, "tasks": ["binary"]}, "two halves, for an odd width, got width 5"),
        ({}, {"shift": 0.0}, "shift: input should be greater than 0, got 0.0"),
        ({}, {"methods": ["stable"], "curve": True}, 'curve is for the method "gradient", which the suite does not'),
        ({}, {"curve": True, "tasks": ["binary"]}, 'curve is of the mean squared error, for the task "regression"'),
        ({"validate_every": 0}, {"curve": True}, "validate_every of at least 1 for a curve, got 0 in smoke"),
        ({}, {"curve": False}, "curve: input should be True, got False"),
        ({}, {"train_inputs_per_layer": 0}, "train_inputs_per_layer: input should be greater than or equal to 1"),
        ({}, {"starts": ["constructed"]}, 'if and only if "constructed" is among the starts, got None'),
        ({}, {"start_noise": 0.1}, 'if and only if "constructed" is among the starts, got 0.1'),
        (
            {},
            {"starts": ["constructed"], "start_noise": 0.1, "tune_bias": [False]},
            'must not name "constructed" where biases are not tuned',
        ),
        ({}, {"measure": "certificate", "shift": 2.0}, 'shift is for the measure "error", which the suite does not'),
    ],
)
def test_faults_of_these_keys_are_named(scale, keys, part):
    with pytest.raises(SpecError) as caught:
        suite_of(scale, **keys)
    assert part in str(caught.value)


def test_several_faults_are_named_at_once():
    with pytest.raises(SpecError, match="got 4 faults") as caught:
        suite_of({"steps": 0}, tasks=["binary", "binary"], shift=-1.0, start_noise=0.5)
    for part in ("tasks must not name anything twice", "shift", "start_noise", "scales.smoke.steps"):
        assert part in str(caught.value)


def test_suites_without_these_keys_say_nothing_of_them():
    new = {
        "task",
        "tasks",
        "shift",
        "train_inputs",
        "train_inputs_per_layer",
        "curve",
        "start",
        "starts",
        "start_noise",
    }
    for name in ("fnn", "bias", "tfn"):
        assert not any(new & set(spec) for spec in grid(load_suite(name), "paper"))
