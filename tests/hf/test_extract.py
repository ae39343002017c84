"""Adapters of every kind of model: PEFT loads them, and the outputs are the tuned model's."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file

from hf import tiny
from lorascope.errors import CheckpointError, SpecError
from lorascope.experiments.workers import local_pool
from lorascope.hf import extract, rank_report, verify, write
from lorascope.hf.factors import Factors
from lorascope.hf.quiet import quiet
from lorascope.hf.work import open_work

pytestmark = pytest.mark.hf

OF_RMS = {"llama", "llama-tied", "qwen2", "t5", "mixtral"}  # their norms' names end so


def reloaded(case, base, adapter, **options):
    """As a user would load it: nothing of lorascope's."""
    with quiet():
        model = getattr(transformers, tiny.CASES[case][0]).from_pretrained(base, **options)
        return peft.PeftModel.from_pretrained(model, adapter).eval()


def relative(got, wanted):
    return float((got - wanted).norm() / wanted.norm())


def tensors(folder):
    return load_file(folder / "adapter_model.safetensors")


def config(folder):
    return json.loads((folder / "adapter_config.json").read_text())


@pytest.mark.parametrize("case", tiny.CASES)
def test_peft_makes_it_the_tuned_model(case, tmp_path):
    base, tuned = tiny.pair(case, tmp_path)
    found = extract(base, tuned, tmp_path / "out", rank=64)
    wanted = tiny.logits(tiny.tune(tiny.make(case)), case)
    before = tiny.logits(tiny.make(case), case)
    assert relative(before, wanted) > 0.01  # the fine-tune did something
    assert relative(tiny.logits(reloaded(case, base, tmp_path / "out"), case), wanted) <= 1e-3
    assert found.functional.error <= 1e-3
    assert found.error < 1e-5
    assert found.left_out == []


@pytest.mark.parametrize("case", tiny.CASES)
def test_a_low_rank_leaves_what_the_best_approximation_leaves(case, tmp_path):
    base, tuned = tiny.pair(case, tmp_path)
    found = extract(base, tuned, tmp_path / "out", rank=4)
    given, have = (dict(model.named_parameters()) for model in (tiny.make(case), tiny.tune(tiny.make(case))))
    for row in found.rows:
        values = torch.linalg.svdvals((have[row.name] - given[row.name]).detach().double())
        least = float(values[..., 4:].norm())
        # values and outputs are fitted to their heads' products, which costs each of them a little
        of_heads = any(name in row.name for name in (".v", ".value", "o_proj", "attention.output", ".o.", ".out"))
        assert least * (1 - 2e-3) - 1e-6 <= row.residual <= least * (1.2 if of_heads else 1 + 2e-3) + 1e-6
        assert row.rank == min(4, values.shape[-1])
    assert {key for key in tensors(tmp_path / "out") if key.endswith("norm.weight")} or case not in OF_RMS


@pytest.mark.parametrize("case", ["llama", "mixtral"])
def test_half_precision(case, tmp_path):
    base, tuned = tiny.pair(case, tmp_path, dtype=torch.bfloat16)
    found = extract(base, tuned, tmp_path / "out", rank=32)
    assert {value.dtype for value in tensors(tmp_path / "out").values()} == {torch.bfloat16}
    assert found.error < 0.01
    model = getattr(transformers, tiny.CASES[case][0]).from_pretrained(tuned, dtype=torch.float32)
    got = tiny.logits(reloaded(case, base, tmp_path / "out", dtype=torch.float32), case)
    assert relative(got, tiny.logits(model, case)) < 0.01


def test_rounding_is_told_where_it_is_most_of_the_error(tmp_path):
    base, tuned = tiny.pair("llama", tmp_path, dtype=torch.bfloat16)
    found = extract(base, tuned, tmp_path / "out", rank=32)
    [told] = found.told
    assert told in (tmp_path / "out" / "README.md").read_text()
    kept = extract(base, tuned, tmp_path / "kept", rank=32, dtype="float32")
    assert kept.told == ()
    assert f"rounding to bfloat16: unrounded factors leave {kept.error:.3g}," in told
    assert found.error > 2 * kept.error
    assert extract(base, tuned, tmp_path / "out", rank=4).told == ()


def test_only_what_changed_is_carried(tmp_path):
    base = tiny.save(tiny.make("llama"), tmp_path / "base")
    tuned = tiny.save(tiny.tune(tiny.make("llama"), only=lambda name: "layers.1.mlp.up" in name), tmp_path / "tuned")
    found = extract(base, tuned, tmp_path / "out", rank=4)
    assert [row.name for row in found.rows] == ["model.layers.1.mlp.up_proj.weight"]
    assert len(tensors(tmp_path / "out")) == 2
    assert found.whole == 0


def test_a_bias_beside_a_matrix_that_did_not_change(tmp_path):
    base = tiny.save(tiny.make("qwen2"), tmp_path / "base")
    changed = tiny.tune(tiny.make("qwen2"), only=lambda name: name.endswith(".bias"))
    tuned = tiny.save(changed, tmp_path / "tuned")
    extract(base, tuned, tmp_path / "out")
    assert (
        relative(tiny.logits(reloaded("qwen2", base, tmp_path / "out"), "qwen2"), tiny.logits(changed, "qwen2")) < 1e-5
    )


@pytest.mark.parametrize("case", ["llama", "llama-tied"])
def test_a_grown_vocabulary(case, tmp_path):
    base = tiny.save(tiny.make(case), tmp_path / "base")
    changed = tiny.tune(tiny.make(case, vocab_size=103))
    extract(base, tiny.save(changed, tmp_path / "tuned"), tmp_path / "out", rank=64)
    assert "resize_token_embeddings(103)" in (tmp_path / "out" / "README.md").read_text()
    with quiet():
        model = transformers.LlamaForCausalLM.from_pretrained(base)
        model.resize_token_embeddings(103)
        model = peft.PeftModel.from_pretrained(model, tmp_path / "out").eval()
    assert relative(tiny.logits(model, case), tiny.logits(changed, case)) < 1e-4


def test_a_new_head(tmp_path):
    tuned = tiny.tune(tiny.make("bert", num_labels=2))
    base = tiny.save(tiny.make("bert").bert, tmp_path / "base")
    extract(base, tiny.save(tuned, tmp_path / "tuned"), tmp_path / "out", rank=64)
    assert "num_labels=2" in (tmp_path / "out" / "README.md").read_text()
    got = tiny.logits(reloaded("bert", base, tmp_path / "out", num_labels=2), "bert")
    assert relative(got, tiny.logits(tuned, "bert")) < 1e-4


def test_an_adapter_is_shrunk(tmp_path):
    base, tuned = tiny.pair("llama", tmp_path)
    extract(base, tuned, tmp_path / "large", rank=16)
    found = extract(base, str(tmp_path / "large"), tmp_path / "small", rank=4)
    direct = extract(base, tuned, tmp_path / "direct", rank=4)
    assert {row.rank for row in found.rows} == {4}
    for key, value in tensors(tmp_path / "direct").items():
        assert tensors(tmp_path / "small")[key].shape == value.shape
    for small, straight in zip(found.rows, direct.rows, strict=True):
        assert small.name == straight.name
        # of what the large one still had: all of a small matrix
        assert small.residual < straight.residual * (1 + 1e-6)


@pytest.mark.parametrize("profile", ["vllm", "llamacpp"])
@pytest.mark.parametrize("case", ["llama", "llama-tied", "qwen2", "bert", "mixtral"])
def test_the_rules_of_other_runtimes(profile, case, tmp_path):
    base, tuned = tiny.pair(case, tmp_path)
    found = extract(base, tuned, tmp_path / "out", rank=20, profile=profile)
    check_rules(config(tmp_path / "out"), tensors(tmp_path / "out"), profile)
    assert found.left_out
    assert found.max_lora_rank == 32
    card = (tmp_path / "out" / "README.md").read_text()
    assert ("--max-lora-rank 32" in card) == (profile == "vllm")
    assert all(entry.reason for entry in found.left_out)


def check_rules(config, tensors, profile):
    """peft-format.md's, for either runtime."""
    assert config["bias"] == "none"
    assert not config.get("lora_bias")
    assert not config.get("use_dora")
    assert not config.get("target_parameters")
    assert set(config.get("modules_to_save", [])) <= ({"classifier", "score"} if profile == "vllm" else set())
    assert max(config["r"], *config["rank_pattern"].values(), 0) <= 512
    factors = {key: value for key, value in tensors.items() if ".lora_" in key}
    for key, value in factors.items():
        if ".lora_A" in key or ".lora_embedding_A" in key:
            name, rank = key.split(".lora_")[0].removeprefix("base_model.model."), value.shape[0]
            assert rank <= config["r"]
            scales = {rule(config, name, rank) for rule in READ_BY[profile]}
            assert len(scales) == 1  # whichever version reads it
    rest = tensors.keys() - factors.keys()
    assert all(key.split(".")[-2] in {"classifier", "score"} for key in rest) if profile == "vllm" else not rest
    assert not any(key.endswith("lora_B.bias") for key in tensors)
    if profile == "llamacpp":
        assert not any("embedding" in key or "embed_tokens" in key for key in tensors)


def pattern(config, which, name, default):
    """First match wins, as PEFT looks a name up."""
    return next((v for key, v in config[which].items() if re.match(rf"(.*\.)?({key})$", name)), default)


def peft_scale(config, name, rank):
    assert pattern(config, "rank_pattern", name, config["r"]) == rank
    return pattern(config, "alpha_pattern", name, config["lora_alpha"]) / rank


def old_vllm_scale(config, name, rank):
    return config["lora_alpha"] / config["r"]


def llamacpp_scale(config, name, rank):
    return config["lora_alpha"] / rank


READ_BY = {"vllm": (peft_scale, old_vllm_scale), "llamacpp": (peft_scale, llamacpp_scale)}


@pytest.mark.parametrize(
    ("profile", "key", "value"),
    [("vllm", "bias", "lora_only"), ("vllm", "lora_bias", True), ("vllm", "rank_pattern", {"q_proj": 2}),
     ("vllm", "lora_alpha", 7), ("vllm", "r", 4), ("vllm", "modules_to_save", ["lm_head"]),
     ("vllm", "target_parameters", ["experts.down_proj"]), ("vllm", "alpha_pattern", {}),
     ("llamacpp", "alpha_pattern", {"k_proj": 16}), ("llamacpp", "rank_pattern", {})],
)  # fmt: skip
def test_a_broken_rule_is_seen(profile, key, value, tmp_path):
    base, tuned = tiny.pair("qwen2", tmp_path)
    extract(base, tuned, tmp_path / "out", rank=20, profile=profile)
    with pytest.raises(AssertionError):
        check_rules({**config(tmp_path / "out"), key: value}, tensors(tmp_path / "out"), profile)


@pytest.mark.parametrize("profile", ["vllm", "llamacpp"])
def test_mixed_ranks_are_the_same_in_every_profile(profile, tmp_path):
    """Key and value have 16 rows, the rest get 20."""
    base, tuned = tiny.pair("qwen2", tmp_path)
    only = {"modules": "proj", "exclude": "norm|embed|lm_head"}
    extract(base, tuned, tmp_path / "peft", rank=20, **only)
    extract(base, tuned, tmp_path / "other", rank=20, profile=profile, **only)
    assert config(tmp_path / "peft")["rank_pattern"]
    model = tiny.logits(reloaded("qwen2", base, tmp_path / "other"), "qwen2")
    mixed, other = tensors(tmp_path / "peft"), tensors(tmp_path / "other")
    for key in other:
        if key.endswith("lora_A.weight"):
            beside, rank = key.replace("lora_A", "lora_B"), other[key].shape[0]
            scale = 20 / rank if profile == "llamacpp" else 1.0
            assert torch.allclose(scale * other[beside] @ other[key], mixed[beside] @ mixed[key], atol=1e-7)
    assert torch.isfinite(model).all()


def test_budgets(tmp_path):
    base, tuned = tiny.pair("llama", tmp_path)
    sides = 2 * (32 + 32 + 2 * 48 + 32 + 32 + 3 * 96) + 132
    for count in (sides, 3 * sides + 5):
        found = extract(base, tuned, tmp_path / "out", parameters=count, dry_run=True)
        assert found.parameters <= count
        assert found.parameters > count - sides
    found = extract(base, tuned, tmp_path / "out", max_error=0.4, dry_run=True)
    assert found.error <= 0.4
    assert extract(base, tuned, tmp_path / "out", rank=found.rank - 1, dry_run=True).error > 0.4
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "tuned"]


def test_rounding_gets_no_rank(tmp_path):
    base = tiny.make("llama")
    tuned = tiny.tune(tiny.make("llama"), size=0.5, rank=2)
    folders = [tiny.save(model.bfloat16(), tmp_path / name) for name, model in (("base", base), ("tuned", tuned))]
    found = extract(*folders, tmp_path / "out", rank=16, modules="layers")
    # the edge of so small a matrix's noise varies by a value
    assert {row.rank for row in found.rows} <= {2, 3}


def test_outputs_are_compared_where_they_can_be(tmp_path, monkeypatch):
    base, tuned = tiny.pair("llama", tmp_path)
    found = extract(base, tuned, tmp_path / "out", rank=4, outputs=False)
    assert "not asked for" in found.functional.inputs
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1000))
    found = extract(base, tuned, tmp_path / "out", rank=4)
    assert "more than half of the free memory" in found.functional.inputs
    assert found.functional.inputs[1:] in (tmp_path / "out" / "README.md").read_text()


def test_configurations_that_compute_differently_are_told(tmp_path):
    base, tuned = tiny.pair("llama", tmp_path, rank=1)
    assert extract(base, tuned, tmp_path / "same", rank=1, outputs=False).told == ()
    path = tmp_path / "tuned" / "config.json"
    config = json.loads(path.read_text())
    config["rope_parameters"]["rope_theta"] = 500.0
    config |= {
        "rms_norm_eps": 1e-3,
        "hidden_act": "gelu",
        "attention_dropout": 0.5,
        "eos_token_id": 7,
        "use_cache": False,
    }
    path.write_text(json.dumps(config))
    [told] = extract(base, tuned, tmp_path / "other", rank=1, outputs=False).told
    for says in (
        "rope_parameters.rope_theta is 10000.0 in the base and 500.0 in the tuned model",
        "rms_norm_eps is 1e-06 in the base and 0.001",
        "hidden_act is silu in the base and gelu",
    ):
        assert says in told
    assert told.count(" in the tuned model") == 3
    assert told in (tmp_path / "other" / "README.md").read_text()
    assert rank_report(base, tuned).configurations == told
    assert verify(base, tuned, str(tmp_path / "other")).configurations == told
    assert verify(base, str(tmp_path / "same"), str(tmp_path / "same")).configurations == ""


def test_the_folder_holds_no_path_of_this_machine(tmp_path):
    base, tuned = tiny.pair("bert", tmp_path)
    extract(base, tuned, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "lorascope.json",
    ]  # fmt: skip
    for name in ("README.md", "adapter_config.json", "lorascope.json"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text()
    assert config(tmp_path / "out")["base_model_name_or_path"] == "base"
    extract(base, tuned, tmp_path / "out", base_name="owner/bert")  # an earlier adapter may be replaced
    assert config(tmp_path / "out")["base_model_name_or_path"] == "owner/bert"


def test_killed_and_run_again(tmp_path):
    base, tuned = tiny.pair("mixtral", tmp_path)
    extract(base, tuned, tmp_path / "whole", rank=4)
    program = (
        "import sys, time; from pathlib import Path; from lorascope.hf import extract as module;"
        "import lorascope.hf.work as work; save = work.Work.save;"
        "slow = lambda self, index, factors, *stage: (save(self, index, factors, *stage), time.sleep(0.2));"
        "work.Work.save = slow; module(sys.argv[1], sys.argv[2], Path(sys.argv[3]), rank=4)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, base, tuned, tmp_path / "out"])
    folder = tmp_path / ".out.lorascope-work"
    deadline = time.monotonic() + 200
    while len(list(folder.glob("matrix-*.safetensors"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    first = folder / "matrix-00000.safetensors"
    written = first.stat().st_mtime_ns
    reads = []

    def progress(share, what):
        reads.append(what)
        if "writing" in what:
            assert first.stat().st_mtime_ns == written  # what was there was kept

    extract(base, tuned, tmp_path / "out", rank=4, progress=progress)
    assert reads
    name = "adapter_model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list(tmp_path.glob(".out*"))  # the lock of the killed run neither


def test_threads_take_the_matrices(tmp_path):
    base, tuned = tiny.pair("bert", tmp_path)
    extract(base, tuned, tmp_path / "alone", rank=4)
    with ThreadPoolExecutor(3) as executor:
        extract(base, tuned, tmp_path / "many", rank=4, executor=executor)
    name = "adapter_model.safetensors"
    assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()


@pytest.mark.slow
def test_processes_take_the_matrices(tmp_path):
    base, tuned = tiny.pair("mixtral", tmp_path)
    tiny.tokenizer(tuned)
    options = {"rank": 4, "calibration": tiny.texts(tmp_path / "texts.txt")}
    extract(base, tuned, tmp_path / "alone", **options)
    with local_pool(2) as executor:
        extract(base, tuned, tmp_path / "many", **options, executor=executor)
        name = "adapter_model.safetensors"
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()
        (tmp_path / "tuned" / "model.safetensors").write_bytes(b"not a model")
        with pytest.raises(CheckpointError):
            extract(base, tuned, tmp_path / "faulty", rank=4, executor=executor)


def test_another_question_starts_anew(tmp_path):
    with closing(open_work(tmp_path / "out", {"rank": 4})) as work:
        work.save(
            0, Factors(torch.ones(1, 3), torch.ones(2, 1), 1.0, 0.5, 0.1, torch.ones(1), 1.5, True, torch.ones(2))
        )
    with closing(open_work(tmp_path / "out", {"rank": 4})) as work:
        again = work.load(0)
    assert (again.norm, again.residual, again.floor, again.total, again.weighted) == (1.0, 0.5, 0.1, 1.5, True)
    assert again.shift.tolist() == [1.0, 1.0]
    with closing(open_work(tmp_path / "out", {"rank": 8})) as work:
        assert work.load(0) is None


def test_what_cannot_be(tmp_path):
    base, tuned = tiny.pair("gpt2", tmp_path)
    out = tmp_path / "out"
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    for options, message in (
        ({"rank": 0}, "--rank must be at least 1, got 0"),
        ({"rank": 2, "max_error": 0.1}, "only one of .*--rank and --max-error"),
        ({"max_error": 2.0}, "between 0 and 1"),
        ({"parameters": 3}, "--params must be at least"),
        ({"modules": "("}, "--modules must be a regular expression"),
        ({"dtype": "int8"}, "--dtype must be one of"),
        ({"modules": "nothing like it"}, "--modules and --exclude leave nothing"),
        ({"profile": "llamacpp"}, "the profile llamacpp can carry nothing"),
        ({"out": full}, "must be a new or empty folder"),
        ({"tuned": base}, "are the same"),
    ):
        arguments = {"base": base, "tuned": tuned, "out": out, **options}
        with pytest.raises(SpecError, match=message) as caught:
            extract(**arguments)
        assert "\n" not in str(caught.value)
        assert not out.exists()
    assert (full / "thesis.txt").read_text() == "mine"


def test_a_file_that_is_not_what_was_written_is_not_published(tmp_path, monkeypatch):
    real = write.factor_tensors

    def spoiled(*arguments):
        for key, tensor in real(*arguments):
            yield key, tensor.roll(1, 0) if "q_proj.lora_A" in key else tensor

    monkeypatch.setattr(write, "factor_tensors", spoiled)
    base, tuned = tiny.pair("llama", tmp_path)
    with pytest.raises(CheckpointError, match=r"q_proj\.weight must be read back"):
        extract(base, tuned, tmp_path / "out", rank=8)
    assert not (tmp_path / "out").exists()
