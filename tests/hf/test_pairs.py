"""Every parameter of two checkpoints, matched, as the models themselves have it."""

import json
from pathlib import Path

import peft
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from hf import tiny
from lorascope.errors import CheckpointError
from lorascope.hf import extract, open_models
from lorascope.hf.slots import slots_of
from lorascope.hf.stored import read_header

pytestmark = pytest.mark.hf


@pytest.mark.parametrize("case", tiny.CASES)
@pytest.mark.parametrize("shards", ["1GB", "20KB"])
def test_every_parameter_is_read_as_transformers_reads_it(case, shards, tmp_path):
    base, tuned = tiny.make(case), tiny.tune(tiny.make(case))
    folders = [tiny.save(base, tmp_path / "base"), tiny.save(tuned, tmp_path / "tuned", max_shard_size=shards)]
    models = open_models(*folders)
    have, given = dict(tuned.named_parameters()), dict(base.named_parameters())
    assert {pair.name for pair in models.pairs} == have.keys()
    assert models.left_out == []
    for pair in models.pairs:
        assert torch.equal(pair.tuned(), have[pair.name])
        assert torch.equal(pair.base(), given[pair.name])
        turned = (have[pair.name] - given[pair.name]).detach()
        assert torch.equal(pair.difference(), turned.T if pair.kind == "conv1d" else turned)
        assert pair.changed() == bool(turned.any())


def test_kinds():
    def kinds(case):
        return {slot.name: slot.kind for slot in slots_of(tiny.make(case))}

    llama, mixtral, bert = kinds("llama"), kinds("mixtral"), kinds("bert")
    assert llama["lm_head.weight"] == "head"
    assert llama["model.layers.0.self_attn.q_proj.bias"] == "bias"
    assert llama["model.norm.weight"] == "norm"
    assert mixtral["model.layers.0.mlp.experts.gate_up_proj"] == "expert"
    assert mixtral["model.layers.0.mlp.gate.weight"] == "whole"
    assert bert["classifier.weight"] == "head"
    assert bert["bert.pooler.dense.weight"] == "linear"
    assert kinds("gpt2")["transformer.h.0.attn.c_attn.weight"] == "conv1d"
    assert kinds("vit")["vit.embeddings.cls_token"] == "bare"


def test_tied_weights_are_one_pair(tmp_path):
    models = open_models(*tiny.pair("t5", tmp_path))
    embeddings = [pair for pair in models.pairs if "shared" in pair.name]
    assert len(embeddings) == 1
    assert set(embeddings[0].slot.tied) == {
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
        "lm_head.weight",
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_dtype(dtype, tmp_path):
    models = open_models(*tiny.pair("qwen2", tmp_path, dtype=dtype))
    assert {pair.tuned_dtype for pair in models.pairs} == {dtype}
    assert models.pairs[3].difference().dtype == torch.float32


@pytest.mark.parametrize("case", ["llama", "llama-tied"])
def test_a_grown_vocabulary(case, tmp_path):
    base = tiny.make(case)
    tuned = tiny.tune(tiny.make(case, vocab_size=103))
    models = open_models(tiny.save(base, tmp_path / "base"), tiny.save(tuned, tmp_path / "tuned"))
    grown = {pair.name: pair.grown for pair in models.pairs if pair.grown}
    names = {"model.embed_tokens.weight", "lm_head.weight"} if case == "llama" else {"model.embed_tokens.weight"}
    assert grown == dict.fromkeys(names, 3)
    pair = next(pair for pair in models.pairs if pair.grown)
    assert torch.equal(pair.difference()[100:], pair.tuned()[100:])


def test_a_bare_encoder_is_the_base_of_a_classifier(tmp_path):
    tuned = tiny.tune(tiny.make("bert"))
    folders = tiny.save(tiny.make("bert").bert, tmp_path / "base"), tiny.save(tuned, tmp_path / "tuned")
    models = open_models(*folders)
    assert [pair.name for pair in models.pairs if pair.load_base is None] == ["classifier.weight", "classifier.bias"]
    assert len(models.pairs) == len(list(tuned.parameters()))


def test_a_head_of_another_size_is_new(tmp_path):
    tuned = tiny.tune(tiny.make("bert", num_labels=2))
    models = open_models(tiny.save(tiny.make("bert"), tmp_path / "base"), tiny.save(tuned, tmp_path / "tuned"))
    assert [pair.name for pair in models.pairs if pair.load_base is None] == ["classifier.weight", "classifier.bias"]


def test_convolutions_and_bare_parameters_are_listed_where_the_profile_carries_none(tmp_path):
    tuned = tiny.make("vit")
    with torch.no_grad():
        tuned.vit.embeddings.cls_token += 1
        tuned.vit.embeddings.patch_embeddings.projection.weight += 1
        tuned.classifier.weight += 1
    folders = tiny.save(tiny.make("vit"), tmp_path / "base"), tiny.save(tuned, tmp_path / "tuned")
    assert extract(*folders, tmp_path / "out", dry_run=True).left_out == []
    left_out = extract(*folders, tmp_path / "out", profile="vllm", dry_run=True).left_out
    reasons = {entry.name.rpartition("embeddings.")[2]: entry.reason for entry in left_out}
    assert reasons.keys() == {"cls_token", "projection.weight"}
    assert set(reasons.values()) == {"the profile vllm carries no convolutions and no bare parameters"}


ADAPTERS = {
    "llama": {"target_modules": ["q_proj", "up_proj", "embed_tokens"], "rank_pattern": {"up_proj": 2},
              "alpha_pattern": {r"layers\.1.*up_proj": 5}, "modules_to_save": ["norm", "lm_head"], "use_rslora": True},
    "gpt2": {"target_modules": ["c_attn", "c_proj"], "bias": "lora_only", "fan_in_fan_out": True},
    "bert": {"target_modules": ["query", "dense"], "lora_bias": True, "modules_to_save": ["classifier"]},
    "mixtral": {"target_modules": ["q_proj"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
                "rank_pattern": {"experts.down_proj": 2}},
}  # fmt: skip


@pytest.mark.parametrize("case", ADAPTERS)
@pytest.mark.filterwarnings("ignore")  # what PEFT says of these settings
def test_an_adapter_is_read_as_peft_merges_it(case, tmp_path):
    base = tiny.save(tiny.make(case), tmp_path / "base")
    adapted = peft.get_peft_model(tiny.make(case), peft.LoraConfig(r=3, lora_alpha=6, **ADAPTERS[case]))
    tiny.trained(adapted, seed=2)
    adapted.save_pretrained(tmp_path / "adapter")
    merged = dict(adapted.merge_and_unload().named_parameters())
    models = open_models(base, str(tmp_path / "adapter"))
    assert {pair.name for pair in models.pairs} == merged.keys()
    changed = 0
    for pair in models.pairs:
        assert torch.allclose(pair.tuned(), merged[pair.name], atol=1e-6), pair.name
        changed += not torch.equal(pair.tuned(), pair.base())
    assert changed >= 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_seen_wherever_it_stands(dtype, value, tmp_path):
    for size, place in ((1, 0), (7, 3), (5000, 4999), (70000, 0), (70000, 33333)):
        given = torch.linspace(-3, 3, size).to(dtype)
        save_file({"good": given, "none": given[:0]}, tmp_path / "file")
        assert torch.equal(read_header(tmp_path / "file")["good"].load(), given)
        assert read_header(tmp_path / "file")["none"].load().shape == (0,)
        given[place] = value
        save_file({"bad": given}, tmp_path / "file")
        with pytest.raises(CheckpointError, match="1 NaN or infinite values in bad"):
            read_header(tmp_path / "file")["bad"].load()


def test_changes_of_the_storage_type_alone_are_none(tmp_path):
    model = tiny.make("qwen2", dtype=torch.bfloat16)
    folders = tiny.save(model, tmp_path / "base"), tiny.save(model.float(), tmp_path / "tuned")
    assert not any(pair.changed() for pair in open_models(*folders).pairs)


def nan_in(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def cut_early(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:60])


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lose_tensor(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def anonymous(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": None}))


def foreign(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["OwnModel"]}))


def header(entries):
    def spoil(folder):
        told = json.dumps(entries).encode()
        (folder / "model.safetensors").write_bytes(len(told).to_bytes(8, "little") + told)

    spoil.__name__ = f"header {entries}"
    return spoil


def configured(**entries):
    def spoil(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **entries}))

    spoil.__name__ = f"config {entries}"
    return spoil


def written(name, content):
    def spoil(folder):
        (folder / name).write_bytes(content)

    spoil.__name__ = f"{name} {content}"
    return spoil


INDEX = "model.safetensors.index.json"
FAULTS = {
    nan_in: "1 NaN or infinite", cut: "truncated", cut_early: "cut off", pickled: "pickle",
    lose_tensor: "model.norm.weight", anonymous: "architectures", foreign: "OwnModel",
    header([1, 2, 3]): "no JSON object", header({"a": {"dtype": "F32"}}): "lacks data_offsets",
    header({"a": {"dtype": "F32", "shape": "x", "data_offsets": [0, 0]}}): "must be a safetensors file",
    header({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 0]}}): r"shape \[3\] has 0 bytes",
    configured(architectures="LlamaForCausalLM"): "has LlamaForCausalLM", configured(architectures=["LlamaConfig"]):
    "is a LlamaConfig", configured(model_type=None): "config.json of", configured(model_type="own"): "config.json of",
    configured(hidden_size="x"): "hidden_size", configured(num_attention_heads=0): "config.json of",
    configured(quantization_config={"quant_method": "gptq", "bits": 4}): "has quantization_config",
    written("config.json", b""): "config.json must be a JSON object", written("config.json", b"[1]"): "it is a list",
    written("config.json", b"{x"): "config.json must be a JSON object",
    written("config.json", b"\xff\xfe\x00"): "utf-8",
    written(INDEX, b"{x"): f"{INDEX} must be a JSON object", written(INDEX, b"[]"): "it is a list",
    written(INDEX, b"{}"): "lacks weight_map", written(INDEX, b'{"weight_map": []}'): "weight_map",
    written(INDEX, b'{"weight_map": {}}'): "names none",
}  # fmt: skip


def read_all(base, tuned):
    for pair in open_models(base, tuned).pairs:
        pair.difference()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_damaged_models_are_refused_in_one_line(fault, tmp_path):
    base, tuned = tiny.pair("llama", tmp_path)
    fault(tmp_path / "tuned")
    with pytest.raises(CheckpointError, match=FAULTS[fault]) as caught:
        read_all(base, tuned)
    assert "\n" not in str(caught.value)


def test_a_width_that_no_weight_has(tmp_path):
    base, tuned = tiny.pair("llama", tmp_path)
    for folder in (base, tuned):
        configured(hidden_size=64)(Path(folder))
    with pytest.raises(CheckpointError, match=r"embed_tokens.weight has shape \[100, 32\].* says \[100, 64\].*more"):
        open_models(base, tuned)


def test_missing_shards_are_named(tmp_path):
    base = tiny.save(tiny.make("llama"), tmp_path / "base")
    tuned = tiny.save(tiny.make("llama"), tmp_path / "tuned", max_shard_size="20KB")
    next((tmp_path / "tuned").glob("model-00003*")).unlink()
    with pytest.raises(CheckpointError, match="model-00003"):
        open_models(base, tuned)


def test_two_architectures(tmp_path):
    base = tiny.save(tiny.make("llama"), tmp_path / "llama")
    with pytest.raises(CheckpointError, match="llama and qwen2"):
        open_models(base, tiny.save(tiny.make("qwen2"), tmp_path / "qwen2"))
    with pytest.raises(CheckpointError, match=r"layers\.2.*only in the tuned.*and \d+ more"):
        open_models(base, tiny.save(tiny.make("llama", num_hidden_layers=3), tmp_path / "deeper"))
    with pytest.raises(CheckpointError, match=r"shape \[64, 32\] in the base, \[48, 32\]"):
        open_models(base, tiny.save(tiny.make("llama", intermediate_size=48), tmp_path / "narrower"))


def test_what_is_no_model(tmp_path, monkeypatch):
    base = tiny.save(tiny.make("llama"), tmp_path / "base")
    for name, message in {
        str(tmp_path / "nowhere"): "found no folder",
        str(tmp_path / "base" / "config.json"): "got the file",
        str(tmp_path): "config.json",
        "some--model": "some--model",
        "foo/bar.": "foo/bar",
        "foo/-x": "foo/-x",
        "foo/bar.git": ".git",
        "a" * 200: "maximum length is 96",
        "a" * 300 + "/x": "too long",
        "~no-such-user-here/x": "a folder or a hub name",
    }.items():
        with pytest.raises(CheckpointError, match=message):
            open_models(base, name)
        with pytest.raises(CheckpointError, match=message):
            open_models(name, base)


def test_a_hub_name_offline(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="hub cannot be reached"):
        open_models("some-owner/some-model", str(tmp_path))
