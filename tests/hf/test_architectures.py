"""What is peculiar to some models: heads of several layers, tables PEFT cannot call, tied biases, bare parameters."""

import sys
from concurrent.futures import ThreadPoolExecutor

import peft
import pytest
import torch
from safetensors.torch import load_file

from hf import tiny
from hf.architectures import build, by_the_card, carried, check, error, keys, same_body, saved
from lorascope.hf import extract, open_models
from lorascope.hf.functional import quiet, random_inputs
from lorascope.hf.slots import slots_of

pytestmark = pytest.mark.hf

CLASSIFIERS = ["Roberta", "XLMRoberta", "Electra", "DistilBert", "DebertaV2", "Albert"]


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_the_whole_head_is_carried_though_only_the_body_changed(family, tmp_path):
    base = build(family, "ForSequenceClassification")
    tuned = tiny.tune(build(family, "ForSequenceClassification"), only=lambda name: "classifier" not in name)
    found = check(tmp_path, base, tuned)
    assert found.left_out == []
    assert "classifier" in carried(tmp_path)
    head = {name for name, _ in tuned.named_parameters() if "classifier" in name}
    assert head <= keys(tmp_path)
    assert not any("classifier" in key and "lora" in key for key in keys(tmp_path))


@pytest.mark.parametrize("family", ["Roberta", "DistilBert"])
@pytest.mark.parametrize("profile", ["vllm", "llamacpp"])
def test_such_heads_in_other_profiles(family, profile, tmp_path):
    base, tuned = (build(family, "ForSequenceClassification") for _ in range(2))
    folders = saved(tmp_path, base, tiny.tune(tuned))
    found = extract(*folders, tmp_path / "out", rank=64, profile=profile)
    assert found.functional.error < 2  # PEFT loads it
    assert carried(tmp_path) == (["classifier"] if profile == "vllm" else [])
    named = {entry.name for entry in found.left_out}
    changed = {name for name, _ in base.named_parameters() if name.endswith("classifier.weight")}
    assert not changed & named


@pytest.mark.parametrize("profile", ["peft", "vllm"])
def test_a_bare_encoder_under_a_head_of_two_layers(profile, tmp_path):
    tuned = tiny.tune(build("Roberta", "ForSequenceClassification", num_labels=3))
    folders = saved(tmp_path, build("Roberta", "Model", add_pooling_layer=False), tuned)
    found = extract(*folders, tmp_path / "out", rank=64, profile=profile)
    assert "classifier" in carried(tmp_path)
    assert profile == "vllm" or error(tuned, folders[0], tmp_path / "out") < 1e-3
    assert found.functional.error < 2


@pytest.mark.filterwarnings("ignore")  # what PEFT says of these settings
def test_a_trained_adapter_with_a_head_of_two_layers(tmp_path):
    base = tiny.save(build("Roberta", "ForSequenceClassification"), tmp_path / "base")
    model = build("Roberta", "ForSequenceClassification")
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", r=2))
    tiny.trained(adapted, seed=3)
    adapted.save_pretrained(tmp_path / "tuned")
    extract(base, str(tmp_path / "tuned"), tmp_path / "out", rank=64)
    assert error(adapted.merge_and_unload().eval(), base, tmp_path / "out") < 1e-3


@pytest.mark.parametrize("profile", ["peft", "vllm", "llamacpp"])
def test_a_head_for_questions_that_did_not_change(profile, tmp_path):
    """PEFT asks for it as it does for classifiers."""
    base, tuned = (build("Bert", "ForQuestionAnswering") for _ in range(2))
    folders = saved(tmp_path, base, tiny.tune(tuned, only=lambda name: "query.weight" in name))
    extract(*folders, tmp_path / "out", rank=64, profile=profile)
    with quiet(), torch.no_grad():
        model = peft.PeftModel.from_pretrained(base, tmp_path / "out").eval()
        (batch,) = random_inputs(tuned)
        got, wanted = (made(**batch).start_logits for made in (model, tuned))
    assert float((got - wanted).norm() / wanted.norm()) < 1e-3
    assert carried(tmp_path) == (["qa_outputs"] if profile == "peft" else [])


@pytest.mark.parametrize(
    ("family", "task", "table"),
    [("OPT", "ForCausalLM", "model.decoder.embed_positions"),
     ("Bart", "ForConditionalGeneration", "model.encoder.embed_positions"),
     ("DebertaV2", "ForSequenceClassification", "deberta.encoder.rel_embeddings")],
)  # fmt: skip
def test_tables_that_factors_do_not_reach(family, task, table, tmp_path):
    """One is called with a mask, one with tokens, one not at all: its weight is read."""
    base, tuned = build(family, task), tiny.tune(build(family, task))
    found = check(tmp_path, base, tuned)
    assert found.left_out == []
    assert table in carried(tmp_path)
    assert any("lora_embedding_A" in key for key in keys(tmp_path))  # those of tokens still get factors


def test_threads_name_the_kinds():
    """Python 3.11 parses in one thread at a time only: reading code must not parse it."""
    model, before = build("Bert", "Model"), sys.getswitchinterval()
    try:
        sys.setswitchinterval(1e-5)
        with ThreadPoolExecutor(4) as executor:
            found = list(executor.map(slots_of, [model] * 24))
    finally:
        sys.setswitchinterval(before)
    assert all(slots == found[0] for slots in found)


def test_a_scaled_table_gets_factors(tmp_path):
    base, tuned = build("Gemma3", "ForCausalLM"), tiny.tune(build("Gemma3", "ForCausalLM"))
    check(tmp_path, base, tuned)
    assert "model.embed_tokens.lora_embedding_A" in keys(tmp_path)


@pytest.mark.parametrize(
    ("family", "task", "part"),
    [("Bert", "ForSequenceClassification", "classifier"), ("Llama", "ForCausalLM", "lm_head"),
     ("Llama", "ForCausalLM", "norm")],
)  # fmt: skip
def test_an_adapter_without_factors(family, task, part, tmp_path):
    """PEFT loads none without a matrix that it targets."""
    base, tuned = build(family, task), tiny.tune(build(family, task), only=lambda name: part in name)
    found = check(tmp_path, base, tuned)
    stored = load_file(tmp_path / "out" / "adapter_model.safetensors")
    factors = {key: value for key, value in stored.items() if "lora" in key}
    assert len(factors) == 2
    assert not any(value.any() for value in factors.values())
    assert found.parameters == sum(value.numel() for value in factors.values())
    assert found.rows == []


@pytest.mark.parametrize("part", ["classifier", "convolution"])
def test_a_head_gets_factors_where_nothing_else_can(part, tmp_path):
    base, tuned = build("ResNet", "ForImageClassification"), build("ResNet", "ForImageClassification")
    changed = tiny.tune(tuned, only=lambda name: "classifier" in name or part in name)
    check(tmp_path, base, changed)
    assert {"classifier.1.lora_A.weight", "classifier.1.base_layer.bias"} <= keys(tmp_path)


def test_norms_alone_are_asked_for(tmp_path):
    folders = saved(tmp_path, build("Llama", "ForCausalLM"), tiny.tune(build("Llama", "ForCausalLM")))
    extract(*folders, tmp_path / "out", modules="norm")
    tuned = load_file(tmp_path / "tuned" / "model.safetensors")["model.norm.weight"]
    model = by_the_card(folders[0], tmp_path / "out")
    assert torch.equal(model.base_model.model.model.norm.weight, tuned)


@pytest.mark.parametrize(("before", "after"), [(2, 5), (5, 2)])
@pytest.mark.parametrize("family", ["Bert", "Roberta"])
def test_another_number_of_labels(family, before, after, tmp_path):
    base = build(family, "ForSequenceClassification", num_labels=before)
    tuned = tiny.tune(same_body(base, build(family, "ForSequenceClassification", seed=1, num_labels=after)))
    check(tmp_path, base, tuned)
    assert f"num_labels={after}" in (tmp_path / "out" / "README.md").read_text()


MASKED = {
    "DistilBert": "vocab_projector", "Bert": "cls.predictions.decoder", "Roberta": "lm_head.decoder",
    "Electra": "generator_lm_head",
}  # fmt: skip


@pytest.mark.parametrize("family", MASKED)
@pytest.mark.parametrize("part", ["", "bias"])
def test_the_bias_of_a_tied_output(family, part, tmp_path):
    base = build(family, "ForMaskedLM")
    tuned = tiny.tune(build(family, "ForMaskedLM"), only=lambda name: part in name)
    found = check(tmp_path, base, tuned)
    assert found.left_out == []
    assert f"{MASKED[family]}.base_layer.bias" in keys(tmp_path)


@pytest.mark.parametrize("family", ["DistilBert", "Bert", "Roberta"])
def test_it_grows_with_the_vocabulary(family, tmp_path):
    base, tuned = build(family, "ForMaskedLM"), build(family, "ForMaskedLM")
    with torch.random.fork_rng(), quiet():
        tuned.resize_token_embeddings(108)
    found = check(tmp_path, base, tiny.tune(tuned))
    assert found.left_out == []


@pytest.mark.parametrize("task", ["ForImageClassification", "Model"])
@pytest.mark.parametrize("part", ["", "cls_token", "projection"])
def test_bare_parameters_and_convolutions_go_with_their_module(task, part, tmp_path):
    base, tuned = build("ViT", task), tiny.tune(build("ViT", task), only=lambda name: part in name)
    found = check(tmp_path, base, tuned)
    assert found.left_out == []
    prefix = "" if task == "Model" else "vit."
    parts = dict(tuned.named_parameters())
    if part:
        module = f"{prefix}embeddings" + (".patch_embeddings.projection" if part == "projection" else "")
        held = {name for name in parts if name.startswith(f"{module}.")}
        assert {key for key in keys(tmp_path) if "lora" not in key} == held
        assert found.whole == sum(parts[name].numel() for name in held)


def test_names_that_end_alike_are_told_apart(tmp_path):
    """PEFT looks for modules whose names end as those it is told; every norm's of a bare Llama ends in `norm`."""
    base, tuned = build("Llama", "Model"), tiny.tune(build("Llama", "Model"), only=lambda name: name == "norm.weight")
    check(tmp_path, base, tuned)
    assert {key for key in keys(tmp_path) if "lora" not in key} == {"norm.weight"}


def test_an_adapter_that_carries_a_module_whole_is_read(tmp_path):
    folders = saved(tmp_path, build("ViT", "ForImageClassification"), tiny.tune(build("ViT", "ForImageClassification")))
    extract(*folders, tmp_path / "out", rank=64)
    found = extract(folders[0], str(tmp_path / "out"), tmp_path / "again", rank=2)
    assert found.left_out == []
    (pair,) = [pair for pair in open_models(*folders).pairs if pair.name.endswith("cls_token")]
    again = load_file(tmp_path / "again" / "adapter_model.safetensors")
    assert torch.equal(again["base_model.model.vit.embeddings.cls_token"], pair.tuned())


def test_what_no_module_can_carry_is_listed_with_the_reason(tmp_path):
    base, tuned = build("Deberta", "ForSequenceClassification"), build("Deberta", "ForSequenceClassification")
    models = open_models(*saved(tmp_path, base, tiny.tune(tuned, only=lambda name: "q_bias" in name)))
    assert {entry.name.rpartition(".")[2] for entry in models.left_out} == {"q_bias"}
    assert "holds matrices that get factors" in models.left_out[0].reason
