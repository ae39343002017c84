"""Models of which something is not as in the others: routers, buffers, tables no file holds, two outputs."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf import tiny
from hf.architectures import build, carried, check, error, keys, saved
from lorascope.errors import CheckpointError
from lorascope.hf import extract, open_models, rank_report, verify

pytestmark = pytest.mark.hf


def both(family, task, **options):
    return build(family, task), tiny.tune(build(family, task), **options)


def whole(family, task):
    base, tuned = both(family, task)
    with torch.no_grad():
        for name, value in tuned.named_buffers():
            if value.is_floating_point() and name in tuned.state_dict():
                value.add_(0.1)
    return base, tuned


@pytest.mark.parametrize("rank", [64, 3])
def test_dense_layers_beside_stacked_experts(rank, tmp_path):
    """PEFT takes them for experts by their names' ends, and asks for the buffer of a router."""
    folders = saved(tmp_path, *whole("DeepseekV3", "ForCausalLM"))
    found = extract(*folders, tmp_path / "out", rank=rank)
    assert found.left_out == []
    gate = "model.layers.1.mlp.gate"
    assert gate in carried(tmp_path)
    assert {f"{gate}.weight", f"{gate}.e_score_correction_bias"} <= keys(tmp_path)
    assert verify(*folders, str(tmp_path / "out")).faults == []
    assert (found.functional.error < 1e-3) == (rank == 64)
    again = extract(folders[0], str(tmp_path / "out"), tmp_path / "again", rank=rank)
    assert again.error < 1e-5
    assert again.functional.error < 1e-3


@pytest.mark.parametrize("profile", ["vllm", "llamacpp"])
def test_dense_layers_in_other_profiles(profile, tmp_path):
    folders = saved(tmp_path, *both("DeepseekV3", "ForCausalLM", only=lambda name: "layers.0.mlp" in name))
    found = extract(*folders, tmp_path / "out", rank=64, profile=profile)
    assert found.functional.error < 1e-3  # as the other runtime loads it
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert "model.layers.0.mlp.gate_proj" in config["target_modules"]
    assert "target_parameters" not in config
    assert verify(*folders, str(tmp_path / "out")).faults == []
    assert extract(folders[0], str(tmp_path / "out"), tmp_path / "again", rank=64).functional.error < 1e-3
    (tmp_path / "out" / "lorascope.json").unlink()
    [unread, missed] = verify(*folders, str(tmp_path / "out")).faults  # as PEFT does
    assert "PEFT does not read 6 tensors" in unread
    assert "PEFT misses" in missed


def test_a_router_that_is_no_product_alone(tmp_path):
    found = check(tmp_path, *both("Phimoe", "ForCausalLM"))
    assert found.left_out == []
    assert "model.layers.0.mlp.router" in carried(tmp_path)


def test_tables_that_no_file_holds(tmp_path):
    base, tuned = both("Marian", "MTModel", only=lambda name: "embed_positions" not in name)
    found = check(tmp_path, base, tuned)
    assert found.left_out == []
    assert not any("embed_positions" in key for key in keys(tmp_path))


def test_a_table_whose_size_is_asked_for_goes_whole(tmp_path):
    check(tmp_path, *both("Whisper", "ForConditionalGeneration"))
    assert "model.encoder.embed_positions" in carried(tmp_path)


@pytest.mark.parametrize(("family", "task"), [("Swin", "ForImageClassification"), ("Bert", "ForQuestionAnswering")])
def test_heads_of_each_stage_and_two_outputs(family, task, tmp_path):
    assert check(tmp_path, *both(family, task)).functional.error < 1e-3


def test_two_outputs_are_weighed_too(tmp_path):
    base, tuned = saved(tmp_path, *both("Bert", "ForQuestionAnswering"))
    tiny.tokenizer(tuned)
    texts = tiny.texts(tmp_path / "texts.txt")
    plain = extract(base, tuned, tmp_path / "plain", rank=4)
    weighted = extract(base, tuned, tmp_path / "weighted", rank=4, calibration=texts)
    assert weighted.functional.kl is None
    plain = verify(base, tuned, str(tmp_path / "plain"), texts).functional
    assert 0 < weighted.functional.error < plain.error


def test_inputs_that_a_model_does_not_take_are_told(tmp_path):
    found = extract(*saved(tmp_path, *both("Bert", "ForMultipleChoice")), tmp_path / "out", rank=2)
    assert found.functional.inputs.startswith("not run on random inputs: a BertForMultipleChoice must take")
    assert "Not run on random inputs: a BertForMultipleChoice must" in (tmp_path / "out" / "README.md").read_text()


def test_values_that_a_class_makes_itself(tmp_path):
    """XLNet's lie on the CPU whatever it is told; what is read of an adapter is checked all the same."""
    folders = saved(tmp_path, *both("XLNet", "ForSequenceClassification"))
    found = extract(*folders, tmp_path / "out", rank=64)
    assert [entry.name for entry in found.left_out] == ["transformer.mask_emb"]
    assert verify(*folders, str(tmp_path / "out")).faults == []


def test_what_kernels_read_past_a_module_goes_whole(tmp_path):
    found = extract(*saved(tmp_path, *both("Mamba", "ForCausalLM", only=lambda name: "_proj" in name)),
                    tmp_path / "out", rank=64)  # fmt: skip
    assert found.left_out == []
    assert found.functional.error < 1e-3
    assert carried(tmp_path) == [f"backbone.layers.{layer}.mixer.out_proj" for layer in range(2)]


def test_an_adapter_that_peft_cannot_load_is_not_published(tmp_path, monkeypatch):
    folders = saved(tmp_path, *both("Mamba", "ForCausalLM", only=lambda name: "_proj" in name))
    monkeypatch.setattr("lorascope.hf.slots._FUSED", set())
    with pytest.raises(CheckpointError, match=r"PEFT cannot load it: .*'out_proj' is incompatible.*--exclude"):
        extract(*folders, tmp_path / "out", rank=2)
    assert not (tmp_path / "out").exists()
    found = extract(*folders, tmp_path / "out", rank=2, profile="vllm")
    assert found.functional.inputs.startswith("not run: PEFT cannot load it")
    extract(*folders, tmp_path / "other", rank=2, exclude="out_proj")


def test_running_means_go_with_their_norm(tmp_path):
    base, tuned = whole("ResNet", "ForImageClassification")
    found = check(tmp_path, base, tuned)
    assert found.left_out == []
    assert found.functional.error < 1e-3
    norm = "resnet.embedder.embedder.normalization"
    assert {f"{norm}.running_mean", f"{norm}.num_batches_tracked", f"{norm}.weight"} <= keys(tmp_path)


def test_a_running_mean_alone(tmp_path):
    base, tuned = build("ResNet", "ForImageClassification"), build("ResNet", "ForImageClassification")
    name = "resnet.embedder.embedder.normalization.running_mean"
    tuned.get_buffer(name).add_(0.5)
    with torch.no_grad():
        tuned.classifier[1].weight += 1
    folders = saved(tmp_path, base, tuned)
    found = extract(*folders, tmp_path / "out", rank=64)
    assert found.left_out == []
    assert error(tuned, folders[0], tmp_path / "out") < 1e-3
    assert rank_report(*folders).whole[name] == 8
    left_out = extract(*folders, tmp_path / "vllm", rank=64, profile="vllm").left_out
    assert [(entry.name, entry.reason) for entry in left_out] == [(name, "the profile vllm carries no buffers")]


def test_buffers_of_modules_that_hold_matrices_are_listed(tmp_path):
    base, tuned = build("Bart", "ForConditionalGeneration").bfloat16(), build("Bart", "ForConditionalGeneration")
    folders = saved(tmp_path, base, tuned.bfloat16())
    assert open_models(folders[0], tiny.save(tuned.float(), tmp_path / "same")).left_out == []  # another type alone
    tuned.final_logits_bias += 0.5
    with torch.no_grad():
        tuned.model.decoder.layers[0].fc1.weight += 1
    changed = tiny.save(tuned, tmp_path / "changed")
    (entry,) = open_models(folders[0], changed).left_out
    assert entry.name == "final_logits_bias"
    assert entry.reason == "a buffer of BartForConditionalGeneration, whose module is not carried whole"
    assert entry in extract(folders[0], changed, tmp_path / "out", rank=2, dry_run=True).left_out
    assert entry in rank_report(folders[0], changed).left_out
    weights = load_file(tmp_path / "changed" / "model.safetensors")
    del weights[entry.name]
    save_file(weights, tmp_path / "changed" / "model.safetensors", metadata={"format": "pt"})
    assert "only the base's file has" in open_models(folders[0], changed).left_out[0].reason
