"""Training on made tasks: it learns, is scored rightly, is saved whole, and outlives a kill."""

import json
import shutil
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import stats
from sklearn import metrics

from hf.glue import made
from lorascope.errors import CheckpointError, SpecError
from lorascope.hf import extract, rank_report, verify
from lorascope.hf.glue import Settings, load_data, run_task, task_named, train
from lorascope.hf.glue.base import open_base
from lorascope.hf.glue.model import build
from lorascope.hf.glue.search import best_rate
from lorascope.hf.quiet import quiet
from lorascope.hf.work import open_work
from lorascope.records import read

pytestmark = pytest.mark.hf
SETTINGS = Settings(method="full", steps=120, batch=16, length=32, lr=2e-3, every=40, dropout=0.1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return made.encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = made.task(tmp_path_factory.mktemp("rows"), "stsb", made.similar)
    return made.task(folder, "mnli", made.three_way)


def test_regression_is_scored_by_both_correlations(base, data, tmp_path):
    found = run_task("stsb", base, tmp_path / "out", data, replace(SETTINGS, patience=0))
    rows = made.similar(40, 2)
    predicted = made.logits(tmp_path / "out", rows).reshape(-1).double().tolist()
    labels = [float(label) for _, _, label in rows]
    assert found.decides == "pearson"
    assert found.metrics["pearson"] == pytest.approx(stats.pearsonr(predicted, labels).statistic, abs=1e-4)
    assert found.metrics["spearman"] == pytest.approx(stats.spearmanr(predicted, labels).statistic, abs=1e-2)
    assert found.metrics["pearson"] > 0.8


@pytest.mark.parametrize("patience", [0, 5])
def test_scores_are_of_the_weights_as_saved_whatever_the_precision_of_training(base, data, tmp_path, patience):
    settings = replace(SETTINGS, precision="bfloat16", dropout=0.0, patience=patience)
    found = run_task("stsb", base, tmp_path / "out", data, settings)
    rows = made.similar(40, 2)
    predicted = made.logits(tmp_path / "out", rows).reshape(-1).double().tolist()
    labels = [float(label) for _, _, label in rows]
    assert found.metrics["pearson"] == pytest.approx(stats.pearsonr(predicted, labels).statistic, abs=1e-5)
    assert found.metrics["spearman"] == pytest.approx(stats.spearmanr(predicted, labels).statistic, abs=1e-3)


def test_looks_while_training_are_in_full_precision(base, data, tmp_path):
    settings = replace(SETTINGS, steps=40, every=20, precision="bfloat16")
    found = train(open_base(base, 32), task_named("stsb"), load_data(task_named("stsb"), data), settings, tmp_path)
    state = json.loads((tmp_path / f"checkpoint-{found.best}" / "trainer_state.json").read_text())
    assert state["best_metric"] == pytest.approx(found.metrics["pearson"], abs=1e-5)


def test_three_classes_are_scored_by_accuracy(base, data, tmp_path):
    found = run_task("mnli", base, tmp_path / "out", data, SETTINGS)
    rows = made.three_way(40, 2)
    predicted = made.logits(tmp_path / "out", rows).argmax(1).tolist()
    assert found.metrics == {"accuracy": metrics.accuracy_score([int(row[2]) for row in rows], predicted)}
    assert found.metrics["accuracy"] > 0.9
    assert (found.rows, found.adapter, found.base) == ((120, 40), False, base)


def test_an_adapter_is_what_ranks_extract_and_verify_read(base, data, tmp_path):
    out = tmp_path / "out"
    found = run_task("mnli", base, out, data, replace(SETTINGS, method="lora", rank=3, lr=1e-2, dropout=0.0))
    rows = made.three_way(40, 2)
    predicted = made.logits(out, rows, base).argmax(1).tolist()
    assert found.metrics == {"accuracy": metrics.accuracy_score([int(row[2]) for row in rows], predicted)}
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == base
    report = rank_report(base, str(out))
    body = [row for row in report.matrices if row.kind != "embedding"]
    assert max(row.spectrum.rank for row in body) == 3
    extract(base, str(out), tmp_path / "again", rank=3)
    checked = verify(base, str(out), str(tmp_path / "again"))
    assert checked.faults == []
    assert checked.error < 1e-3
    assert not verify(base, str(out), str(out)).card


def test_a_random_body_is_saved_beside_its_adapter(base, data, tmp_path):
    out = tmp_path / "out"
    found = run_task("mnli", base, out, data, replace(SETTINGS, method="lora", rank=2, lr=1e-2, init="random", seed=5))
    assert found.base == str(out / "base")
    predicted = made.logits(out, made.three_way(40, 2), found.base).argmax(1).tolist()
    assert found.metrics["accuracy"] == metrics.accuracy_score(
        [int(row[2]) for row in made.three_way(40, 2)], predicted
    )
    name = "encoder.layer.0.attention.self.query.weight"
    weights = load_file(out / "base" / "model.safetensors")
    (query,) = (value for key, value in weights.items() if key.endswith(name))
    (other,) = (value for key, value in load_file(f"{base}/model.safetensors").items() if key.endswith(name))
    assert not torch.equal(query, other)


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        ({"method": "lora", "rank": 0}, ["classifier"]),
        ({"method": "last-layers", "layers": 1}, ["classifier", "encoder.layer.1", "pooler"]),
        ({"method": "bitfit"}, ["bias", "classifier"]),
    ],
)
def test_a_method_trains_what_it_says_and_nothing_else(base, data, tmp_path, settings, changed):
    run_task("mnli", base, tmp_path / "out", data, replace(SETTINGS, **settings, lr=1e-2, steps=3, patience=0))
    old = {name.removeprefix("bert."): value for name, value in load_file(f"{base}/model.safetensors").items()}
    new = {name.removeprefix("bert."): value for name, value in load_file(tmp_path / "out/model.safetensors").items()}
    moved = [name for name in new if name not in old or not torch.equal(old[name], new[name])]
    assert moved
    assert all(any(part in name for part in changed) for name in moved)
    for part in changed:
        assert any(part in name for name in moved)


def test_its_rows_say_what_was_run(base, data, tmp_path):
    found = run_task("mnli", base, tmp_path / "out", data, replace(SETTINGS, method="lora", rank=2, steps=3))
    table = read(tmp_path / "out")
    assert set(table["suite"]) == {"glue-run"}
    assert set(table["method"]) == {"lora"}
    assert set(table["rank"]) == {2}
    values = dict(zip(table["metric"], table["value"], strict=True))
    assert values["accuracy"] == found.metrics["accuracy"]
    assert values["parameters"] == found.trained.parameters
    # twelve matrices of the body and the pooler's, at rank 2, and the head's own
    assert found.trained.head == 3 * 32 + 3
    assert found.trained.parameters - found.trained.head == 2 * (2 * (4 * 64 + 2 * 96) + 64)


NORM = "encoder.layer.0.attention.output.LayerNorm.weight"


def copytree(folder, to):
    return Path(shutil.copytree(folder, to))


class Stopped(Exception):  # noqa: N818
    """Stands for a kill."""


@pytest.mark.parametrize("patience", [0, 2])
def test_a_run_that_is_cut_off_ends_as_if_it_were_not(base, data, tmp_path, patience):
    task = task_named("stsb")
    rows, opened = load_data(task, data), open_base(base, 32)
    settings = replace(SETTINGS, every=10, steps=40, patience=patience)
    whole = train(opened, task, rows, settings, tmp_path / "whole", device="cpu")

    def stop(share, _what):
        if share > 0.6:
            raise Stopped

    with pytest.raises(Stopped):
        train(opened, task, rows, settings, tmp_path / "cut", device="cpu", progress=stop)
    # cut off while a checkpoint was written, too
    (tmp_path / "cut" / "checkpoint-30").mkdir()
    with quiet():
        resumed = train(opened, task, rows, settings, tmp_path / "cut", device="cpu")
    assert resumed.metrics == whole.metrics
    assert (resumed.steps, resumed.best) == (whole.steps, whole.best)
    for (name, left), right in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(left, right), name


@pytest.mark.parametrize(("lr", "patience"), [(2e-3, 1), (1e-2, 2)])
def test_a_run_cut_off_after_it_stopped_early_makes_no_further_step(base, data, tmp_path, monkeypatch, lr, patience):
    task = task_named("stsb")
    rows, opened = load_data(task, data), open_base(base, 32)
    settings = replace(SETTINGS, every=10, steps=200, patience=patience, lr=lr, dropout=0.0)
    whole = train(opened, task, rows, settings, tmp_path / "whole", device="cpu")
    assert whole.best < whole.steps < settings.steps

    def stop(*_):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["lorascope.hf.glue.train"], "score", stop)
        with pytest.raises(Stopped):
            train(opened, task, rows, settings, tmp_path / "cut", device="cpu")
    (tmp_path / "cut").rename(tmp_path / "moved")  # the best weights are found there too
    resumed = train(opened, task, rows, settings, tmp_path / "moved", device="cpu")
    assert (resumed.metrics, resumed.steps, resumed.best) == (whole.metrics, whole.steps, whole.best)
    for (name, left), right in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(left, right), name


def test_best_weights_are_kept_when_a_run_goes_on_elsewhere(base, data, tmp_path, monkeypatch):
    task = task_named("stsb")
    rows, opened = load_data(task, data), open_base(base, 32)
    settings = replace(SETTINGS, every=10, steps=60, patience=5, lr=1e-2, dropout=0.0)
    whole = train(opened, task, rows, settings, tmp_path / "whole", device="cpu")
    best = whole.best
    assert best < whole.steps

    def stop(share, _what):
        if share * settings.steps > best + 2:
            raise Stopped

    monkeypatch.chdir(tmp_path)
    with pytest.raises(Stopped):
        train(opened, task, rows, settings, Path("cut"), device="cpu", progress=stop)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    resumed = train(opened, task, rows, settings, Path("../cut"), device="cpu")
    assert (resumed.metrics, resumed.steps, resumed.best) == (whole.metrics, whole.steps, best)


def test_a_head_of_another_task_is_left(base, data, tmp_path):
    """Three classes, then two: the body goes on, the head is the one of the seed."""
    run_task("mnli", base, tmp_path / "mnli", data, replace(SETTINGS, steps=2, patience=0))
    folder = made.task(tmp_path, "rte", made.two_way)
    again = open_base(str(tmp_path / "mnli"), 32)
    with quiet():
        model = build(again, task_named("rte"), SETTINGS).model
        heads = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            heads.append(build(again, task_named("mnli"), SETTINGS).model.classifier.weight.detach())
    saved = load_file(tmp_path / "mnli" / "model.safetensors")
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(model.state_dict()[name], saved[name])
    assert model.classifier.weight.shape == (2, 32)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert not torch.equal(heads[0], saved["classifier.weight"])
    found = run_task("rte", str(tmp_path / "mnli"), tmp_path / "out", folder, replace(SETTINGS, method="lora", steps=2))
    predicted = made.logits(tmp_path / "out", made.two_way(40, 2), str(tmp_path / "mnli")).argmax(1).tolist()
    labels = [int(row[2]) for row in made.two_way(40, 2)]
    assert found.metrics["accuracy"] == metrics.accuracy_score(labels, predicted)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weights: weights.popitem(), "must be those that its config.json describes, but it has no"),
        (lambda weights: weights.update({NORM: torch.ones(5)}), f"{NORM} in another shape"),
    ],
)
def test_weights_that_do_not_make_up_the_body(base, data, tmp_path, change, said):
    folder = copytree(base, tmp_path / "base")
    weights = {name: value for name, value in load_file(folder / "model.safetensors").items() if "pooler" not in name}
    run = (data, replace(SETTINGS, steps=1, patience=0))
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        run_task("mnli", str(folder), tmp_path / "out", *run)
    assert said in str(caught.value)
    assert not list(tmp_path.glob(".out*"))


def test_the_model_itself_is_no_output(base, data, tmp_path):
    folder = copytree(base, tmp_path / "base")
    for out in (folder, tmp_path):
        with pytest.raises(SpecError, match="--out must not be or hold what is read"):
            run_task("mnli", str(folder), out, data, replace(SETTINGS, steps=1))
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_another_run_at_work_is_left_alone(base, data, tmp_path):
    out, run = tmp_path / "out", ("mnli", base, tmp_path / "out", data, replace(SETTINGS, steps=1, patience=0))
    with closing(open_work(out, {"rank": 4})) as work:
        (work.folder / "steps").mkdir()
        with pytest.raises(SpecError, match="another is at work on"):
            run_task(*run)
        assert (work.folder / "steps").is_dir()
    run_task(*run)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_weights_that_are_not_finite(base, data, tmp_path):
    folder = copytree(base, tmp_path / "base")
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).fill_(torch.nan)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SpecError, match="a score needs outputs that are finite, got 40 of 40 development rows without"):
        run_task("stsb", str(folder), tmp_path / "out", data, replace(SETTINGS, steps=1, patience=0))
    assert not (tmp_path / "out").exists()


def test_a_rate_that_diverges_is_not_chosen(base, data, monkeypatch):
    rows = load_data(task_named("stsb"), data)
    asked = json.dumps(replace(SETTINGS, steps=60, patience=0, dropout=0.0).asked())
    given = ("stsb", rows, asked, (1e-6, 2e-3), 20, "cpu")
    assert best_rate(base, *given) == 2e-3
    inner = train

    def diverges(*given, **named):
        if given[3].lr == 2e-3:
            raise SpecError("outputs that are not finite")
        return inner(*given, **named)

    best_rate.cache_clear()
    monkeypatch.setattr(sys.modules["lorascope.hf.glue.search"], "train", diverges)
    assert best_rate(base, *given) == 1e-6
    best_rate.cache_clear()


def test_seeds_differ_and_a_seed_does_not(base, data, tmp_path):
    task = task_named("stsb")
    rows, opened = load_data(task, data), open_base(base, 32)
    found = [
        train(
            opened, task, rows, replace(SETTINGS, steps=4, seed=seed, patience=0), tmp_path / str(place), device="cpu"
        )
        for place, seed in enumerate((0, 0, 1))
    ]
    heads = [one.model.classifier.weight.detach() for one in found]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_the_callers_randomness_is_left_alone(base, data, tmp_path):
    before = torch.random.get_rng_state()
    run_task("mnli", base, tmp_path / "out", data, replace(SETTINGS, steps=2, patience=0))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"modules": "nothing"},
            "--modules must match a linear module of the body, got 'nothing'; there are ...attention.self.query",
        ),
        ({"method": "last-layers", "layers": 3}, "--layers must be at most the model's 2 layers, got 3"),
        ({"length": 65}, "--length must be at most the 64 positions"),
        ({"steps": 0, "lr": 2.0}, "got 2 faults: --steps must be at least 1, got 0; --lr must lie between 0 and 1"),
        ({"modules": "("}, "--modules must be a regular expression"),
        ({"seed": 2**32}, "--seed must be below 2^32"),
    ],
)
def test_settings_that_cannot_be_run(base, data, tmp_path, changes, said):
    with pytest.raises(SpecError) as caught:
        run_task("mnli", base, tmp_path / "out", data, replace(SETTINGS, **{"method": "lora", **changes}))
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == []
