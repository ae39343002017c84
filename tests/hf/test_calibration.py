"""Adapters weighted by texts and refined on them: budgets, reload, what they are for, and what cannot be."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file

from hf import tiny
from lorascope.errors import CheckpointError, SpecError
from lorascope.hf import extract, verify
from lorascope.hf.calibration import calibrate
from lorascope.hf.choose import choose
from lorascope.hf.pairs import open_models
from lorascope.hf.quiet import quiet
from lorascope.hf.texts import read_texts

pytestmark = pytest.mark.hf
TEXTS = ["llama", "llama-tied", "gpt2", "bert", "mixtral", "t5"]


def pair(case, folder, **options):
    """Folders of base and tuned model with a tokenizer, and a file of texts."""
    base, tuned = tiny.pair(case, folder, **options)
    tiny.tokenizer(tuned)
    return base, tuned, tiny.texts(folder / "texts.txt")


def sides(rows):
    return sum((row.shape[0] if len(row.shape) == 3 else 1) * sum(row.shape[-2:]) for row in rows)


@pytest.mark.parametrize("case", TEXTS)
def test_every_kind_of_model_at_full_rank(case, tmp_path):
    base, tuned, texts = pair(case, tmp_path)
    found = extract(base, tuned, tmp_path / "out", calibration=texts)
    assert found.functional.error <= 1e-3
    assert found.functional.inputs == "the calibration texts"
    with quiet():
        model = getattr(transformers, tiny.CASES[case][0]).from_pretrained(base)
        got = tiny.logits(peft.PeftModel.from_pretrained(model, tmp_path / "out").eval(), case)
    wanted = tiny.logits(tiny.tune(tiny.make(case)), case)
    assert float((got - wanted).norm() / wanted.norm()) <= 1e-3
    verified = verify(base, tuned, str(tmp_path / "out"), texts)
    assert verified.faults == []
    assert verified.functional.kl < 1e-6


@pytest.mark.parametrize("case", ["llama", "gpt2", "bert", "mixtral"])
def test_budgets_are_kept_and_used(case, tmp_path):
    base, tuned, texts = pair(case, tmp_path)
    found = extract(base, tuned, tmp_path / "out", rank=4, calibration=texts)
    weighed = [row for row in found.rows if row.kind != "expert" and "embed" not in row.name]
    assert len({row.rank for row in weighed}) > 1  # some got more than others
    written = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert sum(value.numel() for key, value in written.items() if ".lora_" in key) == found.parameters
    # the head of gpt2 repeats its embedding's factors
    each = sides(found.rows) + (100 + 32 if case == "gpt2" else 0)
    largest = max((row.shape[0] if row.kind == "expert" else 1) * sum(row.shape[-2:]) for row in found.rows)
    assert 4 * each - largest < found.parameters <= 4 * each
    fixed = extract(base, tuned, tmp_path / "n", parameters=3 * each + 7, calibration=texts, dry_run=True)
    assert fixed.parameters <= 3 * each + 7
    assert not (tmp_path / "n").exists()


def test_it_is_nearer_on_other_texts_than_a_plain_extraction(tmp_path):
    base, tuned, texts = pair("bert", tmp_path, size=0.1)
    other = tiny.texts(tmp_path / "other.txt", seed=99, count=60)
    kl = {}
    for name, options in (("plain", {}), ("weighted", {"calibration": texts}),
                          ("refined", {"calibration": texts, "refine_steps": 60})):  # fmt: skip
        found = extract(base, tuned, tmp_path / name, rank=4, modules="encoder|pooler", **options)
        verified = verify(base, tuned, str(tmp_path / name), other)
        assert verified.faults == []
        kl[name] = verified.functional.kl
        if name != "plain":
            assert found.told[0].startswith("Weighted by 40 calibration texts")
            assert found.told[0] in (tmp_path / name / "README.md").read_text()
            assert 0 < found.weighted_error < found.error
    assert kl["weighted"] < kl["plain"]
    assert kl["refined"] < 0.7 * kl["weighted"]


def test_an_error_under_the_weights(tmp_path):
    base, tuned, texts = pair("llama", tmp_path)
    found = extract(base, tuned, tmp_path / "out", max_error=0.3, calibration=texts, dry_run=True)
    assert 0.2 < found.weighted_error <= 0.3
    base, tuned, texts = pair("llama", tmp_path / "rounded", dtype=torch.bfloat16, size=0.01)
    with pytest.raises(SpecError, match="--max-error must be at least"):
        extract(base, tuned, tmp_path / "out", max_error=1e-3, calibration=texts)


def test_biases_take_up_the_mean(tmp_path):
    base, tuned, texts = pair("bert", tmp_path)
    extract(base, tuned, tmp_path / "out", rank=2, calibration=texts)
    told = json.loads((tmp_path / "out" / "lorascope.json").read_text())
    moved = {name: error for name, error in told["whole"].items() if error > 0}
    assert moved
    assert all(name.endswith(".bias") for name in moved)
    assert f"{len(moved)} of them biases that take up the mean" in (tmp_path / "out" / "README.md").read_text()
    # recomputed from the files: what the factors leave, times the mean of the inputs
    name = "bert.encoder.layer.1.output.dense"
    kept = load_file(tmp_path / "out" / "adapter_model.safetensors")
    weights = [load_file(f"{folder}/model.safetensors") for folder in (base, tuned)]
    product = kept[f"base_model.model.{name}.lora_B.weight"] @ kept[f"base_model.model.{name}.lora_A.weight"]
    rest = weights[1][f"{name}.weight"] - weights[0][f"{name}.weight"] - product
    model, inputs, count = tiny.tune(tiny.make("bert")), 0, 0
    rows = []
    handle = model.get_submodule(name).register_forward_hook(lambda _, given, __: rows.append(given[0]))
    for batch in read_texts(texts, [tmp_path / "tuned"]):
        with torch.no_grad():
            model(**batch)
        mask = batch["attention_mask"].bool()
        inputs, count = inputs + rows.pop()[mask].sum(0), count + int(mask.sum())
    handle.remove()
    shift = kept[f"base_model.model.{name}.base_layer.bias"] - weights[1][f"{name}.bias"]
    assert torch.allclose(shift, rest @ (inputs / count), atol=1e-5)


def test_profiles_without_biases_do_without(tmp_path):
    base, tuned, texts = pair("llama", tmp_path)
    for profile in ("vllm", "llamacpp"):
        found = extract(base, tuned, tmp_path / profile, rank=4, calibration=texts, profile=profile)
        config = json.loads((tmp_path / profile / "adapter_config.json").read_text())
        assert config["bias"] == "none"
        assert len(set(config["rank_pattern"].values())) > 1
        assert config["alpha_pattern"] == (config["rank_pattern"] if profile == "vllm" else {})
        assert verify(base, tuned, str(tmp_path / profile)).faults == []
        assert found.functional.kl < found.functional.base_kl


def test_a_regression_head_and_a_bare_encoder(tmp_path):
    base, tuned, texts = pair("bert", tmp_path / "one", num_labels=1)
    found = extract(base, tuned, tmp_path / "one" / "out", rank=2, calibration=texts, refine_steps=10)
    assert found.functional.kl is None  # one output is no distribution
    assert found.functional.error < 0.5
    folders = [tiny.save(model.bert, tmp_path / name)
               for name, model in (("base", tiny.make("bert")), ("tuned", tiny.tune(tiny.make("bert"))))]  # fmt: skip
    tiny.tokenizer(folders[1])
    found = extract(*folders, tmp_path / "out", rank=4, calibration=texts, refine_steps=10, modules="encoder")
    assert found.functional.error < 0.5


def test_rounds_give_the_same_as_one(tmp_path, monkeypatch):
    base, tuned, texts = pair("bert", tmp_path)
    models = open_models(base, tuned)
    choice = choose(models, "peft", None, None, all_biases=True)
    batches = read_texts(texts, [tmp_path / "tuned"], 32)
    one = calibrate(models, choice, batches, tmp_path / "one")
    monkeypatch.setattr("lorascope.hf.calibration.SHARE", 1e-9)
    many = calibrate(models, choice, batches, tmp_path / "many")
    for matrix in choice.factors:
        assert one.has(matrix) == many.has(matrix)
        if one.has(matrix):
            assert torch.equal(one.moments(matrix).left, many.moments(matrix).left)
            assert torch.equal(one.moments(matrix).right, many.moments(matrix).right)


@pytest.mark.parametrize("wait", ["moments-*", "matrix-*", "settled-*", "heads-*", "start/*", "joined-*"])
def test_killed_at_any_stage_and_run_again(wait, tmp_path):
    base, tuned, texts = pair("bert", tmp_path)
    options = {"rank": 3, "modules": "encoder"}
    extract(base, tuned, tmp_path / "whole", calibration=texts, refine_steps=8, **options)
    program = (
        "import sys, time; from pathlib import Path; from lorascope.hf import extract as module;"
        "import safetensors.torch as files; save = files.save_file;"
        "slow = lambda *given, **named: (save(*given, **named), time.sleep(0.05))[0];"
        "import lorascope.hf.work as a, lorascope.hf.calibration as b; a.save_file = b.save_file = slow;"
        "module(sys.argv[1], sys.argv[2], Path(sys.argv[3]), calibration=Path(sys.argv[4]), refine_steps=8,"
        " rank=3, modules='encoder')"
    )
    process = subprocess.Popen([sys.executable, "-c", program, base, tuned, tmp_path / "out", texts])
    folder = tmp_path / ".out.lorascope-work"
    deadline = time.monotonic() + 120
    while len(list(folder.glob(wait))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    extract(base, tuned, tmp_path / "out", calibration=texts, refine_steps=8, **options)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not folder.exists()


def test_refinement_never_ends_further_off(tmp_path, monkeypatch):
    base, tuned, texts = pair("bert", tmp_path)
    monkeypatch.setattr("lorascope.hf.refine.RATE", 30.0)  # far too fast
    plain = extract(base, tuned, tmp_path / "plain", rank=2, calibration=texts)
    found = extract(base, tuned, tmp_path / "out", rank=2, calibration=texts, refine_steps=3)
    assert "3 steps of distillation made it no smaller and were dropped" in found.told[1]
    name = "adapter_model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert math.isclose(found.functional.kl, plain.functional.kl)


def test_models_that_do_not_fit_into_the_memory(tmp_path, monkeypatch):
    base, tuned, texts = pair("bert", tmp_path)
    size = 4 * sum(math.prod(matrix.shape) for matrix in open_models(base, tuned).pairs)
    extract(base, tuned, tmp_path / "first", rank=2, calibration=texts)
    # one fits, two do not: no gains, and the card says so
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1.5 * size))
    found = extract(base, tuned, tmp_path / "second", rank=2, calibration=texts)
    assert "Gains were not fitted: both models in memory" in found.told[1]
    with pytest.raises(SpecError, match="--refine needs both models in memory"):
        extract(base, tuned, tmp_path / "third", rank=2, calibration=texts, refine_steps=2)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=0.5 * size))
    with pytest.raises(SpecError, match="--calibration needs the model in memory"):
        extract(base, tuned, tmp_path / "fourth", rank=2, calibration=texts)
    assert not (tmp_path / "third").exists()
    assert not (tmp_path / "fourth").exists()


def test_what_cannot_be(tmp_path):
    base, tuned, texts = pair("bert", tmp_path)
    bare = tiny.pair("bert", tmp_path / "bare")
    pictures = tiny.pair("vit", tmp_path / "vit")
    tiny.tokenizer(pictures[1])
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    for error, folders, options, message in (
        (SpecError, (base, tuned), {"refine_steps": 5, "calibration": None}, "name them by --calibration"),
        (SpecError, (base, tuned), {"calibration": tmp_path / "absent.txt"}, "texts must be a UTF-8 file"),
        (SpecError, (base, tuned), {"calibration": empty}, "at least one line"),
        (CheckpointError, bare, {}, "texts need a tokenizer"),
        (CheckpointError, pictures, {}, "takes pixel_values"),
    ):
        with pytest.raises(error, match=message) as caught:
            extract(*folders, tmp_path / "out", **{"calibration": texts, **options})
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()


@pytest.mark.gpu
@pytest.mark.parametrize("case", ["llama", "bert"])
def test_a_gpu_comes_to_the_same(case, tmp_path):
    base, tuned, texts = pair(case, tmp_path)
    kl = []
    for device in ("cpu", "cuda"):
        found = extract(base, tuned, tmp_path / device, rank=4, calibration=texts, refine_steps=10, device=device)
        kl.append(found.functional.kl)
        assert verify(base, tuned, str(tmp_path / device)).faults == []
    assert kl[1] == pytest.approx(kl[0], rel=0.05)
