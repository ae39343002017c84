"""What is trained of a model: poolers that a checkpoint lacks, dropout, biases, what comes after the last layer."""

from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import load_file
from sklearn import metrics

from hf.glue import made
from lorascope.errors import CheckpointError, SpecError
from lorascope.hf import rank_report
from lorascope.hf.glue import Settings, load_data, run_task, task_named
from lorascope.hf.glue.base import open_base
from lorascope.hf.glue.extracted import extracted
from lorascope.hf.glue.model import build
from lorascope.hf.glue.probe import behind, uses_all
from lorascope.hf.quiet import quiet

pytestmark = pytest.mark.hf
SETTINGS = Settings(rank=2, steps=60, batch=16, length=32, lr=5e-3, every=30, patience=0)
SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "vocab_size": len(made.SPECIAL) + len(made.WORDS), "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
ALBERT = {**SIZES, "embedding_size": 16}
MODERN = {**SIZES, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
POOLER = 32 * 32 + 32


def saved(folder, kind, config):
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
        made.tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made.task(tmp_path_factory.mktemp("rows"), "mnli", made.three_way)


@pytest.fixture(scope="module", params=["bert", "albert"])
def unpooled(request, tmp_path_factory):
    kind, config = {
        "bert": (transformers.BertForMaskedLM, transformers.BertConfig(**SIZES)),
        "albert": (transformers.AlbertForMaskedLM, transformers.AlbertConfig(**ALBERT)),
    }[request.param]
    return saved(tmp_path_factory.mktemp(request.param), kind, config)


@pytest.fixture(scope="module")
def modern(tmp_path_factory):
    config = transformers.ModernBertConfig(**MODERN, global_attn_every_n_layers=2, local_attention=16)
    return saved(tmp_path_factory.mktemp("modern"), transformers.ModernBertModel, config)


def built(folder, **changes):
    with quiet():
        return build(open_base(folder, 32), task_named("mnli"), replace(SETTINGS, **changes))


def test_a_pooler_that_the_checkpoint_lacks_is_trained_and_saved_with_the_adapter(unpooled, data, tmp_path):
    found = run_task("mnli", unpooled, tmp_path / "out", data, SETTINGS)
    assert found.trained.head == POOLER + 3 * 32 + 3
    names = set(load_file(tmp_path / "out" / "adapter_model.safetensors"))
    assert not [name for name in names if "pooler" in name and "lora" in name]
    rows = made.three_way(40, 2)
    labels = [int(row[2]) for row in rows]
    once, again = (made.logits(tmp_path / "out", rows, unpooled) for _ in range(2))
    assert once.std(0).max() > 1e-4
    assert torch.equal(once, again)
    assert found.metrics["accuracy"] == metrics.accuracy_score(labels, once.argmax(1).tolist())
    report = rank_report(unpooled, str(tmp_path / "out"))
    assert report.matrices
    assert all("pooler" not in row.name or row.spectrum.rank > 2 for row in report.matrices)


def test_the_head_alone_has_that_pooler(unpooled):
    one = built(unpooled, rank=0)
    trained = {name for name, part in one.model.named_parameters() if part.requires_grad}
    assert {name.split(".")[-2] for name in trained} <= {"classifier", "pooler", "dense"}
    assert sum(part.numel() for part in one.model.parameters() if part.requires_grad) == one.head == POOLER + 99


def test_a_full_fine_tune_is_extracted_with_that_pooler(unpooled, data, tmp_path):
    out = tmp_path / "out"
    found = run_task("mnli", unpooled, out, data, replace(SETTINGS, method="full"))
    task = task_named("mnli")
    spec = {"ranks": [32], "texts": 10, "length": 32}
    told = extracted(open_base(unpooled, 32), out, task, load_data(task, data), spec, tmp_path, "cpu")
    assert told.scores["extracted", 32][0] == found.metrics


def test_half_a_pooler_is_damage(data, tmp_path):
    folder = made.encoder(tmp_path / "base")
    weights = load_file(f"{folder}/model.safetensors")
    del weights["pooler.dense.bias"]
    made.save(weights, folder)
    with pytest.raises(CheckpointError, match=r"it has no bert\.pooler\.dense\.bias"):
        run_task("mnli", folder, tmp_path / "out", data, SETTINGS)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_dropout_is_that_of_all_places(modern, dropout, tmp_path):
    config = transformers.ModernBertConfig(
        **MODERN, mlp_dropout=0.3, embedding_dropout=0.3, attention_dropout=0.3, classifier_dropout=0.3
    )
    lossy = saved(tmp_path / "modern", transformers.ModernBertModel, config)
    model = built(lossy, dropout=dropout, method="full").model.train()
    assert {part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)} == {dropout}
    assert model.config.attention_dropout == dropout
    tokens = torch.arange(4, 20).reshape(1, -1)
    with torch.no_grad():
        once, again = (model(input_ids=tokens).logits for _ in range(2))
    assert torch.equal(once, again) is (dropout == 0)


def test_biases_alone_of_a_model_without(modern, data, tmp_path):
    with pytest.raises(SpecError, match="--method bitfit must have biases to train, but the body of a ModernBert"):
        run_task("mnli", modern, tmp_path / "out", data, replace(SETTINGS, method="bitfit"))
    assert list(tmp_path.iterdir()) == []


def test_what_comes_after_the_last_layer_is_trained_with_it(modern):
    model = built(modern, method="last-layers").model
    body = {name for name, part in model.model.named_parameters() if part.requires_grad}
    assert "final_norm.weight" in body
    assert {name for name in body if not name.startswith("final_norm")} == {
        f"layers.1.{name}" for name, _ in model.model.layers[1].named_parameters()
    }


def test_what_is_registered_late_and_called_early_is_not_behind(tmp_path):
    config = transformers.DebertaV2Config(
        **SIZES, relative_attention=True, pos_att_type=["c2p", "p2c"], norm_rel_ebd="layer_norm", type_vocab_size=2
    )
    model = built(saved(tmp_path, transformers.DebertaV2Model, config), method="full").model
    found = behind(model, "deberta.encoder.layer.1")
    assert "deberta.encoder.LayerNorm" in dict(model.named_modules())
    assert found == ["pooler.dense", "classifier"]


def test_a_parameter_that_no_output_depends_on_is_told(modern):
    model = built(modern, method="full").model
    assert uses_all(model)
    model.idle = torch.nn.Linear(2, 2)
    assert not uses_all(model)
    model.idle.requires_grad_(requires_grad=False)
    assert uses_all(model)
