"""Modules that share a weight must be changed alike, or the adapted model is not what one of their changes says."""

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from hf import tiny
from hf.architectures import build
from lorascope.errors import CheckpointError
from lorascope.hf import extract, open_models, verify
from lorascope.hf.quiet import quiet

pytestmark = pytest.mark.hf

WEIGHTS = "adapter_model.safetensors"


def trained(folder, make, **settings):
    base = tiny.save(make(), folder / "base")
    with quiet():
        model = peft.get_peft_model(make(), peft.LoraConfig(r=4, **settings))
        tiny.trained(model, seed=3)
        model.save_pretrained(folder / "tuned")
    return base, str(folder / "tuned")


def llama():
    return tiny.make("llama-tied")


def masked():
    return build("Bert", "ForMaskedLM")


@pytest.mark.filterwarnings("ignore")  # what PEFT says of tied weights
@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (llama, {"target_modules": ["q_proj", "embed_tokens"]}),
        (llama, {"target_modules": ["q_proj", "lm_head"]}),
        (llama, {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
        (llama, {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
        (llama, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
        (llama, {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}),
        (masked, {"target_modules": ["query", "decoder"]}),
        (lambda: tiny.make("t5"), {"target_modules": ["q", "shared"]}),
        (lambda: tiny.make("t5"), {"target_modules": ["q", "lm_head"], "ensure_weight_tying": True}),
    ],
)
def test_one_side_alone_is_refused(make, settings, tmp_path):
    with pytest.raises(CheckpointError, match=r"must change .* alike, for its base ties them.*untie a copy") as caught:
        open_models(*trained(tmp_path, make, **settings))
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    ],
)
def test_peft_keeps_them_alike_where_it_is_asked_to(settings, tmp_path):
    folders = trained(tmp_path, llama, ensure_weight_tying=True, **settings)
    found = extract(*folders, tmp_path / "out", rank=64)
    assert found.functional.error < 1e-5
    assert verify(*folders, str(tmp_path / "out")).faults == []
    assert verify(*folders, folders[1]).faults == []


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folders = {}
    for case in ("llama-tied", "t5"):
        folder = tmp_path_factory.mktemp(case)
        base, tuned = tiny.pair(case, folder)
        extract(base, tuned, folder / "out", rank=4)
        folders[case] = base, tuned, folder / "out"
    return folders


CHANGES = {
    "zero": lambda value: value * 0,
    "nan": lambda value: value * float("nan"),
    "scaled": lambda value: value * 1.001,
    "permuted": lambda value: value.flip(0),
    "one entry": lambda value: value + torch.eye(*value.shape) * 1e-3,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("case", "key"),
    [
        ("llama-tied", "lm_head.lora_B.weight"),
        ("llama-tied", "lm_head.lora_A.weight"),
        ("llama-tied", "model.embed_tokens.lora_embedding_A"),
        ("t5", "decoder.embed_tokens.lora_embedding_B"),
    ],
)
def test_a_change_of_one_copy_is_seen(made, case, key, change, tmp_path):
    base, tuned, out = made[case]
    folder = tiny.copy(out, tmp_path / "changed")
    assert verify(base, tuned, folder).faults == []
    tensors = load_file(tmp_path / "changed" / WEIGHTS)
    tensors[f"base_model.model.{key}"] = CHANGES[change](tensors[f"base_model.model.{key}"])
    save_file(tensors, tmp_path / "changed" / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"alike|must be finite"):
        verify(base, tuned, folder)


def test_a_copy_of_another_vocabulary_is_seen(tmp_path):
    """Of a grown vocabulary the values are held whole, once a name."""
    tuned = masked()
    with torch.random.fork_rng(), quiet():
        tuned.resize_token_embeddings(108)
    folders = tiny.save(masked(), tmp_path / "base"), tiny.save(tiny.tune(tuned), tmp_path / "tuned")
    extract(*folders, tmp_path / "out", rank=4)
    assert verify(*folders, str(tmp_path / "out")).faults == []
    tensors = load_file(tmp_path / "out" / WEIGHTS)
    tensors["base_model.model.cls.predictions.decoder.weight"] *= 1.001
    save_file(tensors, tmp_path / "out" / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="alike"):
        verify(*folders, str(tmp_path / "out"))
