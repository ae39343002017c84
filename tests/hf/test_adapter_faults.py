"""Adapters that are damaged, or made for another model, are refused in one line."""

import json
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from hf import tiny
from lorascope.errors import CheckpointError
from lorascope.hf import extract, open_models, verify
from lorascope.hf.quiet import quiet

pytestmark = pytest.mark.hf

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def trained(case, folder, **settings):
    base = tiny.save(tiny.make(case), folder / "base")
    with quiet():
        model = peft.get_peft_model(tiny.make(case), peft.LoraConfig(r=4, **settings))
        model.save_pretrained(folder / "adapter")
    return base, folder / "adapter"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return trained("llama", tmp_path_factory.mktemp("made"), target_modules=["q_proj", "up_proj"], bias="lora_only")


def config(**changes):
    def spoil(folder):
        told = json.loads((folder / CONFIG).read_text())
        kept = {key: value for key, value in {**told, **changes}.items() if value != "absent"}
        (folder / CONFIG).write_text(json.dumps(kept))

    return spoil


def tensor(ending, shape):
    def spoil(folder):
        weights = load_file(folder / WEIGHTS)
        key = next(key for key in weights if key.endswith(ending))
        weights.pop(key)
        save_file({**weights} if shape is None else {**weights, key: torch.ones(shape)}, folder / WEIGHTS)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / CONFIG).write_text("{x"), "must be a JSON object"),
        (lambda folder: (folder / CONFIG).write_text("[]"), "it is a list"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"x"), "cut off"),
        (config(lora_alpha="absent"), "lacks lora_alpha"),
        (config(r="absent"), "lacks r"),
        (config(lora_alpha="much"), "the alpha 'much'"),
        (config(r=0), "the rank 0"),
        (config(init_lora_weights="pissa"), "init_lora_weights 'pissa', with which PEFT changes the base"),
        (config(init_lora_weights="pissa_niter_4"), "convert it by save_pretrained"),
        (config(init_lora_weights="OLoRA"), "merge it into its base and"),
        (config(init_lora_weights="corda"), "changes the base"),
        (config(init_lora_weights="loftq"), "changes the base"),
        (config(init_lora_weights="lora_ga"), "changes the base"),
        (config(init_lora_weights=["pissa"]), "changes the base"),
        (config(rank_pattern={"(": 2}), "must be a LoRA configuration"),
        (config(alpha_pattern=[3]), "must be a LoRA configuration"),
        (tensor("q_proj.lora_A.weight", (4, 7)), r"change of shape \[32, 7\]"),
        (tensor("q_proj.lora_A.weight", (3, 32)), r"matrices of one rank.*B \[32, 4\] and A \[3, 32\]"),
        (tensor("q_proj.lora_A.weight", (4,)), "matrices of one rank"),
        (tensor("q_proj.lora_A.weight", None), "only one factor"),
        (tensor("q_proj.base_layer.bias", (31,)), r"change of shape \[31\]"),
    ],
)
def test_damage(made, spoil, says, tmp_path):
    folder = Path(tiny.copy(made[1], tmp_path / "copy"))
    open_models(made[0], str(folder))
    spoil(folder)
    with pytest.raises(CheckpointError, match=says) as caught:
        open_models(made[0], str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("begun", ["absent", None, False, "gaussian", "eva", "orthogonal"])
def test_beginnings_that_leave_the_base_alone(made, begun, tmp_path):
    folder = Path(tiny.copy(made[1], tmp_path / "copy"))
    config(init_lora_weights=begun)(folder)
    open_models(made[0], str(folder))


@pytest.mark.filterwarnings("ignore")  # PEFT's own, of how it takes the norm
@pytest.mark.parametrize("begun", ["pissa", "olora"])
def test_a_beginning_that_peft_converted_is_read(begun, tmp_path):
    base = tiny.save(tiny.make("llama"), tmp_path / "base")
    with quiet():
        settings = peft.LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=begun)
        model = peft.get_peft_model(tiny.make("llama"), settings)
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(tmp_path / "begun")
        model.peft_config["default"].init_lora_weights = begun
        tiny.trained(model, seed=3)
        start = str(tmp_path / "begun")
        model.save_pretrained(tmp_path / "converted", path_initial_model_for_weight_conversion=start)
    tuned = tiny.save(model.merge_and_unload(), tmp_path / "tuned")
    found = verify(base, tuned, str(tmp_path / "converted"))
    assert found.faults == []
    assert found.error < 1e-5


@pytest.mark.filterwarnings("ignore")  # PEFT's, that it cannot be merged
def test_biases_that_the_base_does_not_have(tmp_path):
    base, adapter = trained("llama", tmp_path, target_modules=["q_proj", "up_proj"], lora_bias=True)
    with pytest.raises(CheckpointError, match=r"biases to 2 modules that have none in its base \(lora_bias\)"):
        open_models(base, str(adapter))


def test_biases_of_a_module_carried_whole(tmp_path):
    """PEFT stores them three times, and reads one."""
    base, adapter = trained("bert", tmp_path, target_modules=["query"], task_type="SEQ_CLS", bias="all")
    weights = load_file(adapter / WEIGHTS)
    key = "base_model.model.classifier.bias"
    assert {key.replace("bias", f"{part}.bias") for part in ("modules_to_save", "original_module")} < weights.keys()
    save_file({**weights, key: weights[key] + 1}, adapter / WEIGHTS, metadata={"format": "pt"})
    found = extract(base, str(adapter), tmp_path / "out")
    assert found.functional.error < 1e-5
    assert verify(base, str(adapter), str(tmp_path / "out")).faults == []
    assert verify(base, str(adapter), str(adapter)).faults == []
    written = load_file(tmp_path / "out" / WEIGHTS)
    assert torch.equal(written[key], weights[key] + 1)


def test_a_convolution(tmp_path):
    base, adapter = trained("vit", tmp_path, target_modules=["projection"])
    with pytest.raises(CheckpointError, match=r"projection\.weight \(a bare parameter"):
        open_models(base, str(adapter))


def test_a_base_that_cannot_be_read(made, tmp_path):
    base = tiny.copy(made[0], tmp_path / "base")
    (tmp_path / "base" / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(CheckpointError, match=r"config\.json of"):
        open_models(base, str(made[1]))
