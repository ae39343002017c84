"""What calibration makes of few texts, of texts that are alike, of heads of every kind and of nothing to fit."""

import pytest
import torch

from hf import tiny
from hf.architectures import build, saved
from lorascope.errors import CheckpointError
from lorascope.hf import extract, rank_report, verify
from lorascope.hf.moments import Moments
from lorascope.hf.weights import weights_of

pytestmark = pytest.mark.hf


def folders(tmp_path, family, task, only=None, **changes):
    made = saved(tmp_path, build(family, task, **changes), tiny.tune(build(family, task, **changes), 0.15, only=only))
    for folder in made:
        tiny.tokenizer(folder)
    return made


@pytest.mark.parametrize(
    ("family", "task", "profile"),
    [("Bert", "ForSequenceClassification", "llamacpp"), ("Roberta", "ForSequenceClassification", "llamacpp"),
     ("DistilBert", "ForTokenClassification", "llamacpp"), ("Bert", "ForQuestionAnswering", "vllm"),
     ("Llama", "ForSequenceClassification", "llamacpp"), ("Bert", "ForMaskedLM", "peft"),
     ("Roberta", "ForMaskedLM", "peft"), ("Bert", "ForPreTraining", "peft"),
     ("Albert", "ForSequenceClassification", "peft")],
)  # fmt: skip
def test_heads_of_every_kind(family, task, profile, tmp_path):
    # other profiles leave biases and norms out, whose errors no weighing of matrices sees
    matrices = None if profile == "peft" else lambda name: name.endswith("weight") and "norm" not in name.lower()
    changes = {"pad_token_id": 2} if family == "Llama" else {}
    pair = folders(tmp_path, family, task, only=matrices, **changes)
    texts = tiny.texts(tmp_path / "texts.txt", 60)
    plain = extract(*pair, tmp_path / "plain", rank=3, profile=profile)
    found = extract(*pair, tmp_path / "weighted", rank=3, profile=profile, calibration=texts, refine_steps=2)
    assert "fitted" in " ".join(found.told)
    assert verify(*pair, str(tmp_path / "weighted")).faults == []
    before = verify(*pair, str(tmp_path / "plain"), texts).functional
    after = found.functional
    assert after.error < before.error if after.kl is None else after.kl < before.kl
    assert plain.parameters >= 0.9 * found.parameters


@pytest.mark.parametrize("lines", [1, 2, 24])
@pytest.mark.parametrize(
    ("family", "task"),
    [("Bert", "ForSequenceClassification"), ("DistilBert", "ForMaskedLM"), ("OPT", "ForCausalLM"),
     ("Bart", "ForConditionalGeneration")],
)  # fmt: skip
def test_texts_that_are_one_and_the_same(family, task, lines, tmp_path):
    (tmp_path / "texts.txt").write_text("w1 w2 w3\n" * lines)
    pair = folders(tmp_path, family, task)
    found = extract(*pair, tmp_path / "out", rank=2, calibration=tmp_path / "texts.txt")
    assert found.error < 3
    assert verify(*pair, str(tmp_path / "out")).faults == []


@pytest.mark.parametrize("only", ["bias", "norm", "classifier"])
def test_nothing_to_weigh(only, tmp_path):
    changed = (lambda name: name.endswith("LayerNorm.weight")) if only == "norm" else (lambda name: only in name)
    pair = folders(tmp_path, "Bert", "ForSequenceClassification", only=changed)
    found = extract(*pair, tmp_path / "out", calibration=tiny.texts(tmp_path / "texts.txt"))
    assert found.functional.error < 1e-3
    assert "There are no factors that could be fitted to the texts." in found.told


def test_one_output_is_no_distribution(tmp_path):
    pair = folders(tmp_path, "Bert", "ForSequenceClassification", num_labels=1)
    texts = tiny.texts(tmp_path / "texts.txt")
    with pytest.raises(CheckpointError, match="puts out none"):
        rank_report(*pair, texts=texts)
    told = " ".join(extract(*pair, tmp_path / "out", rank=2, calibration=texts).told)
    assert "took their halved squared error from" in told
    assert "KL" not in told


@pytest.mark.parametrize("how", ["ranks", "extract"])
def test_texts_that_a_model_does_not_take(how, tmp_path):
    pair = folders(tmp_path, "Llama", "ForSequenceClassification")  # without a padding token
    texts = tiny.texts(tmp_path / "texts.txt")
    with pytest.raises(CheckpointError, match=r"LlamaForSequenceClassification must take .*, but says: Cannot"):
        rank_report(*pair, texts=texts) if how == "ranks" else extract(*pair, tmp_path / "out", calibration=texts)
    assert not (tmp_path / "out").exists()


def test_directions_that_no_text_uses_keep_their_size(tmp_path):
    """Sentences alone have one type of token; what is done to the other must stay what it was."""
    pair = folders(tmp_path, "Bert", "ForSequenceClassification", type_vocab_size=2)
    found = extract(*pair, tmp_path / "out", rank=4, calibration=tiny.texts(tmp_path / "texts.txt", 60))
    assert max(row.relative for row in found.rows) < 3
    assert found.error < 1.5


def test_roots_of_moments_that_rounding_left_indefinite():
    generator = torch.Generator().manual_seed(0)
    mean = 10 * torch.randn(6, generator=generator, dtype=torch.float64)
    right = torch.outer(mean, mean) - 1e-8 * torch.eye(6, dtype=torch.float64)
    opposite = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)  # gradients of two classes
    found = weights_of(Moments(opposite, right, mean, 1.0), centred=True)
    assert torch.isfinite(found.right).all()
    assert 0 < float(found.right.norm()) < 1e-2
    torch.testing.assert_close(found.left @ found.left.T, opposite + 2e-3 * torch.eye(2), rtol=0, atol=1e-4)
