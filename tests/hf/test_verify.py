"""Verification holds where an adapter is what its card says, and sees where it is not."""

import json
import re

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from hf import minilm, tiny
from lorascope.errors import CheckpointError, SpecError
from lorascope.hf import extract, verify
from lorascope.hf.both import Both
from lorascope.hf.functional import divergence, outputs
from lorascope.hf.texts import read_texts

pytestmark = pytest.mark.hf


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    base, tuned = tiny.pair("qwen2", folder)
    extract(base, tuned, folder / "out", rank=4)
    return base, tuned, folder / "out"


def test_what_was_written_holds(made):
    found = verify(*made[:2], str(made[2]))
    assert found.faults == []
    assert found.card
    assert found.functional.kl < found.functional.base_kl
    recorded = json.loads((made[2] / "lorascope.json").read_text())["matrices"]
    assert {row.name: row.recorded for row in found.rows if row.residual} == {
        row["name"]: row["residual"] for row in recorded if row["residual"]
    }


@pytest.mark.parametrize("size", [1e-3, 1e-6])
def test_a_change_of_the_file_is_seen(made, size, tmp_path):
    folder = tiny.copy(made[2], tmp_path / "changed")
    weights = load_file(tmp_path / "changed" / "adapter_model.safetensors")
    key = next(key for key in weights if "up_proj.lora_B" in key)
    weights[key] *= 1 + 30 * size
    save_file(weights, tmp_path / "changed" / "adapter_model.safetensors", metadata={"format": "pt"})
    faults = verify(*made[:2], folder).faults
    assert len(faults) == (1 if size == 1e-3 else 0)
    assert all("up_proj" in fault for fault in faults)


def test_a_wrong_scale_is_seen(made, tmp_path):
    folder = tiny.copy(made[2], tmp_path / "changed")
    path = tmp_path / "changed" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "lora_alpha": 8}))
    assert len(verify(*made[:2], folder).faults) > 10


@pytest.mark.parametrize("half", ["lora_A", "lora_B"])
@pytest.mark.parametrize("kind", ["q_proj", "down_proj", "embed_tokens"])
def test_a_slightly_wrong_scale_of_one_matrix_is_seen(made, kind, half, tmp_path):
    """What is left over is stationary in the scale of the best factors, so their size is recorded too."""
    folder = tiny.copy(made[2], tmp_path / "changed")
    path = tmp_path / "changed" / "adapter_model.safetensors"
    weights = load_file(path)
    half = half.replace("lora_", "lora_embedding_") if kind == "embed_tokens" else half
    key = next(key for key in weights if kind in key and half in key)
    weights[key] *= 1.001
    save_file(weights, path, metadata={"format": "pt"})
    found = verify(*made[:2], folder)
    [row] = [row for row in found.rows if row.fault]
    assert abs(row.residual - row.recorded) < 1e-5 * row.norm
    assert kind in row.name
    assert row.size == pytest.approx(1.001 * row.recorded_size, rel=1e-5)
    [fault] = found.faults
    assert "norm" in fault


def test_a_slightly_wrong_scale_of_all_is_seen(made, tmp_path):
    folder = tiny.copy(made[2], tmp_path / "changed")
    named(tmp_path / "changed", lora_alpha=lambda told: told * 1.001)
    found = verify(*made[:2], folder)
    factors = [row for row in found.rows if row.residual > 0]
    assert len(factors) > 10
    assert all(row.fault for row in factors)


def test_sizes_are_those_of_the_changes(made):
    sizes = json.loads((made[2] / "lorascope.json").read_text())["sizes"]
    weights = {key.removeprefix("base_model.model."): value for key, value in load_file(
        made[2] / "adapter_model.safetensors").items()}  # fmt: skip
    key = next(key for key in weights if "up_proj.lora_B" in key)
    product = weights[key].double() @ weights[key.replace("lora_B", "lora_A")].double()
    assert sizes[key.replace("lora_B.", "")] == pytest.approx(float(product.norm()), rel=1e-9)
    assert sizes["model.norm.weight"] == pytest.approx(float(weights["model.norm.weight"].norm()), rel=1e-6)


def test_a_record_without_sizes_is_read(made, tmp_path):
    folder = tiny.copy(made[2], tmp_path / "older")
    path = tmp_path / "older" / "lorascope.json"
    told = json.loads(path.read_text())
    del told["sizes"]
    path.write_text(json.dumps(told))
    found = verify(*made[:2], folder)
    assert found.card
    assert found.faults == []
    path.write_text(json.dumps({**told, "sizes": [3]}))
    with pytest.raises(CheckpointError, match="damaged"):
        verify(*made[:2], folder)


def named(folder, **changes):
    path = folder / "adapter_config.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, **{key: change(told[key]) for key, change in changes.items()}}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"target_modules": lambda told: told[:2]}, "PEFT does not read .* tensors"),
        ({"target_modules": lambda _: ["nothing"]}, "PEFT cannot load it"),
        ({"target_modules": lambda told: [*told, "model.layers.0.mlp.act_fn"]}, "PEFT cannot load it"),
        ({"rank_pattern": lambda _: {"model.layers.0.mlp.up_proj": 3}}, "PEFT cannot load it.*another rank"),
    ],
)
def test_a_configuration_of_other_tensors_is_seen(made, changes, says, tmp_path):
    folder = tiny.copy(made[2], tmp_path / "changed")
    assert verify(*made[:2], folder).unread == []
    named(tmp_path / "changed", **changes)
    found = verify(*made[:2], folder)
    assert re.match(says, found.faults[0])
    assert "\n" not in found.faults[0]


def test_factors_that_are_not_there_are_seen(made, tmp_path):
    folder = tiny.copy(made[2], tmp_path / "changed")
    weights = load_file(tmp_path / "changed" / "adapter_model.safetensors")
    kept = {key: value for key, value in weights.items() if "layers.0.mlp.up_proj" not in key}
    save_file(kept, tmp_path / "changed" / "adapter_model.safetensors", metadata={"format": "pt"})
    assert any("PEFT misses 2 tensors" in fault for fault in verify(*made[:2], folder).faults)


def test_largest_kl_allowed(made):
    kl = verify(*made[:2], str(made[2])).functional.kl
    assert verify(*made[:2], str(made[2]), max_kl=2 * kl).faults == []
    assert "KL" in verify(*made[:2], str(made[2]), max_kl=kl / 2).faults[0]


def test_an_adapter_of_other_hands_has_no_record(made, tmp_path):
    folder = tiny.copy(made[2], tmp_path / "bare")
    (tmp_path / "bare" / "lorascope.json").unlink()
    found = verify(*made[:2], folder)
    assert not found.card
    assert found.missing == ["lorascope.json"]
    assert found.faults == []
    (tmp_path / "bare" / "lorascope.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        verify(*made[:2], folder)


def test_divergence_is_measured_as_it_is_defined(generator):
    wanted, got = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)
    p, q = wanted.softmax(-1), got.softmax(-1)
    assert divergence(wanted, got) == pytest.approx(float((p * (p / q).log()).sum() / 5))
    assert divergence(wanted, wanted + 3) == pytest.approx(0, abs=1e-14)


def test_texts(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("a longer text than the others by far\n\nshort\n  one more  \n")
    batches = read_texts(file, [tmp_path, minilm.path()], batch=2)
    assert [batch["input_ids"].shape[0] for batch in batches] == [2, 1]
    assert batches[0]["attention_mask"].sum() <= 3 + 4
    file.write_text("word " * 2000)
    assert read_texts(file, [minilm.path()])[0]["input_ids"].shape[1] == 512
    with pytest.raises(CheckpointError, match="tokenizer"):
        read_texts(file, [tmp_path])
    file.write_text("\n")
    with pytest.raises(SpecError, match="at least one line"):
        read_texts(file, [minilm.path()])
    with pytest.raises(SpecError, match="one text a line"):
        read_texts(tmp_path / "none", [minilm.path()])


def test_lines_of_one_tab_are_pairs(tmp_path):
    file = tmp_path / "pairs.txt"
    file.write_text("a film\tone more film that is long\n\nshort\tb\n")
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm.folder())
    wanted = tokenizer(["short", "a film"], ["b", "one more film that is long"], padding=True, return_tensors="pt")
    [batch] = read_texts(file, [minilm.path()])
    assert batch.keys() == wanted.keys()
    assert all(torch.equal(batch[key], wanted[key]) for key in batch)
    assert batch["token_type_ids"].any()
    file.write_text("a film\tone more film\nno tab\n")  # else a tab is part of a text
    [batch] = read_texts(file, [minilm.path()])
    assert not batch["token_type_ids"].any()
    assert batch["attention_mask"].sum(dim=1).tolist() == [4, 7]


def test_padding_does_not_count(tmp_path):
    """A causal model's divergence over texts together is that over each alone."""
    file, one = tmp_path / "texts.txt", tmp_path / "one.txt"
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm.folder())
    size = len(tokenizer)
    base = tiny.save(tiny.make("qwen2", vocab_size=size), tmp_path / "base")
    tuned = tiny.save(tiny.tune(tiny.make("qwen2", vocab_size=size)), tmp_path / "tuned")
    tokenizer.save_pretrained(tuned)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tuned)  # as the model's architecture reads it
    extract(base, tuned, tmp_path / "out", rank=2, exclude="embed|lm_head")
    lines = ["a film", "a much longer sentence about a film that is long"]
    file.write_text("\n".join(lines))
    together = verify(base, tuned, str(tmp_path / "out"), file).functional.kl
    total, count = 0.0, 0
    for line in lines:
        one.write_text(line)
        tokens = len(tokenizer(line)["input_ids"])
        total += tokens * verify(base, tuned, str(tmp_path / "out"), one).functional.kl
        count += tokens
    assert together == pytest.approx(total / count, rel=1e-4)


def test_outputs_are_compared_as_what_they_are(generator):
    wanted, got = torch.randn(2, 3, 4, 5, generator=generator).unbind()
    batch = {"input_ids": torch.zeros(3, 4), "attention_mask": torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])}
    kept = batch["attention_mask"].bool()

    def losses(**teller):
        models = [
            lambda told=told, **_: {name: value(told) for name, value in teller.items()} for told in (wanted, got)
        ]
        return [float(value) for value in Both(*models, [batch], {}, {}).losses(0)]

    # logits, whether or not the model tells its hidden states as well
    kl = divergence(wanted[kept], got[kept])
    assert losses(logits=lambda told: told) == pytest.approx([kl, 0])
    error = float((wanted - got)[kept].norm() / wanted[kept].norm())
    assert losses(logits=lambda told: told, hidden_states=lambda told: [told]) == pytest.approx([kl, error])
    # of hidden states, and of single numbers, there is no divergence
    half = float(0.5 * (wanted - got)[kept].square().sum(-1).mean())
    assert losses(last_hidden_state=lambda told: told) == pytest.approx([half, 0])
    half = float(0.5 * (wanted - got)[kept][:, :1].square().mean())
    assert losses(logits=lambda told: told[..., :1]) == pytest.approx([half, 0])


def test_outputs_of_a_decoder_are_counted_by_its_own_mask(generator):
    logits = torch.randn(2, 3, 5, generator=generator)
    decoder = torch.tensor([[1, 1, 0], [1, 0, 0]])
    batch = {"attention_mask": torch.ones(2, 4), "decoder_attention_mask": decoder}
    rows, named = outputs(lambda **_: {"logits": logits}, [batch, batch])
    assert named
    assert torch.equal(rows, logits[decoder.bool()].repeat(2, 1).double())
    assert outputs(lambda **_: {"start_logits": logits}, [batch]) is None
