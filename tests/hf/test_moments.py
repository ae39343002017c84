"""Second moments against sums over single positions; cotangents against the Fisher matrix they are to make."""

import pytest
import torch

from hf import tiny
from lorascope.errors import CheckpointError
from lorascope.hf.cotangents import Output, cotangents, output_of
from lorascope.hf.moments import FULL, measure_moments, moment_bytes

pytestmark = pytest.mark.hf


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def information(logits):
    p = logits.double().softmax(-1)
    return torch.diag_embed(p) - p[..., :, None] * p[..., None, :]


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_few_classes_are_summed_exactly(classes):
    logits = torch.randn(5, classes, generator=generator()) * 3
    found = cotangents(Output(logits, None, True), generator())
    assert len(found) == classes - 1
    total = sum(direction[:, :, None] * direction[:, None, :] for direction in found)
    assert torch.allclose(total.double(), information(logits), atol=1e-6)


def test_many_classes_are_drawn():
    logits = torch.randn(1, 12, generator=generator())
    total, draws, rng = torch.zeros(12, 12), 4000, generator(1)
    for _ in range(draws):
        (direction,) = cotangents(Output(logits, None, True), rng)
        assert float(direction.sum()) == pytest.approx(0, abs=1e-5)
        total += direction.T @ direction
    assert torch.allclose(total / draws, information(logits)[0].float(), atol=0.02)


def test_positions_are_independent_and_padding_counts_for_nothing():
    logits = torch.randn(2, 3, 4, generator=generator())
    mask = torch.tensor([[True, True, False], [True, True, True]])
    rng, cross = generator(2), torch.zeros(4, 4)
    for _ in range(2000):
        found = cotangents(Output(logits, mask, True), rng)
        assert all(float(direction[0, 2].abs().sum()) == 0 for direction in found)
        cross += sum(torch.outer(direction[1, 0], direction[1, 1]) for direction in found)
    assert float((cross / 2000).abs().max()) < 0.02


@pytest.mark.parametrize(
    "output", [Output(torch.randn(400, 1), None, True), Output(torch.randn(50, 8, 16), None, False)]
)
def test_a_single_output_and_hidden_states_are_gaussian(output):
    (direction,) = cotangents(output, generator())
    assert float(direction.square().mean()) == pytest.approx(1, abs=0.2)


def test_a_model_that_puts_out_neither():
    with pytest.raises(CheckpointError, match="must put out logits or hidden states"):
        output_of({"start_logits": torch.zeros(1)}, {})


def batch_of(case, lengths):
    tokens = torch.randint(3, 100, (len(lengths), max(lengths)), generator=generator(7))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    tokens[mask == 0] = 2
    return {"input_ids": tokens, "attention_mask": mask}


def slow(model, name, batches, directions_of):
    """One text at a time, unpadded, every module's input and gradient kept; no sums but in float64."""
    inputs, gradients = [], []
    module = model.get_submodule(name)
    for batch in batches:
        for row in range(len(batch["input_ids"])):
            length = int(batch["attention_mask"][row].sum())
            one = {key: value[row : row + 1, :length] for key, value in batch.items()}
            kept = {}
            handle = module.register_forward_hook(lambda _, a, out, kept=kept: kept.update(x=a[0].detach(), y=out))
            for parameter in model.parameters():
                parameter.requires_grad_(True)
            logits = model(**one).logits
            handle.remove()
            for number, direction in enumerate(directions_of(logits.detach())):
                (g,) = torch.autograd.grad(logits, kept["y"], direction, retain_graph=True)
                gradients.append(g.reshape(-1, g.shape[-1]).double())
                if number == 0:
                    inputs.append(
                        kept["x"].flatten()
                        if kept["x"].dtype == torch.int64
                        else kept["x"].reshape(-1, kept["x"].shape[-1]).double()
                    )
    return torch.cat(inputs), torch.cat(gradients)


def roots(logits):
    values, vectors = torch.linalg.eigh(information(logits)[0])
    return [(vectors[:, k] * values[k].clamp(min=0).sqrt())[None].float() for k in range(1, len(values))]


@pytest.mark.parametrize(
    "name",
    ["bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.1.output.dense", "bert.pooler.dense",
     "bert.embeddings.word_embeddings"],
)  # fmt: skip
def test_sums_over_single_positions(name):
    model = tiny.make("bert")
    batches = [batch_of("bert", [5, 9, 3]), batch_of("bert", [4, 4])]
    found = measure_moments(model, [name, "bert.encoder.layer.0.output.dense"], batches, generator())[name]
    x, g = slow(model, name, batches, roots)
    if x.dtype == torch.int64:
        assert torch.allclose(found.left, torch.bincount(x, minlength=100).double() / len(x))
        gradients = found.right
        assert found.mean is None
    else:
        assert torch.allclose(found.right, x.T @ x / len(x), rtol=1e-4, atol=1e-6)
        assert torch.allclose(found.mean, x.mean(0), rtol=1e-4, atol=1e-6)
        gradients = found.left
    expected = g.T @ g / len(x)
    assert float((gradients - expected).norm()) < 1e-4 * float(expected.norm())
    assert found.rows == len(x) / 5


def test_a_divergence_is_what_the_moments_say():
    """Of the pooler, which sees one position a text: a random change moves the outputs as predicted."""
    model = tiny.make("bert")
    batches = [batch_of("bert", [6] * 64)]
    found = measure_moments(model, ["bert.pooler.dense"], batches, generator())["bert.pooler.dense"]
    with torch.no_grad():
        before = model(**batches[0]).logits.double().log_softmax(-1)
        ratios = []
        for seed in range(8):
            change = 3e-3 * torch.randn(32, 32, generator=generator(seed))
            weight = model.bert.pooler.dense.weight
            weight += change
            after = model(**batches[0]).logits.double().log_softmax(-1)
            weight -= change
            kl = float((before.exp() * (before - after)).sum(-1).mean())
            d = change.double()
            ratios.append(kl / (found.rows / 2 * float(torch.trace(found.left @ d @ found.right @ d.T))))
    assert 0.7 < sum(ratios) / len(ratios) < 1.4


def test_the_model_stays_as_it_is():
    model = tiny.make("gpt2")
    before = {name: value.clone() for name, value in model.named_parameters()}
    names = ["transformer.h.0.attn.c_attn", "transformer.h.1.mlp.c_proj", "transformer.h.1.attn.c_attn"]
    found = measure_moments(model, names, [batch_of("gpt2", [5, 7])], generator())
    assert found.keys() == set(names)
    assert found["transformer.h.0.attn.c_attn"].left.shape == (96, 96)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name])
        assert value.grad is None
    assert not any(module._forward_hooks for module in model.modules())


def test_a_module_that_no_text_passes_through_has_none():
    model = tiny.make("bert").bert
    found = measure_moments(model, ["pooler.dense"], [batch_of("bert", [5, 7])], generator())
    assert found == {}  # hidden states are put out before the pooler


def test_beyond_the_limit_only_the_diagonal_is_kept(monkeypatch):
    assert moment_bytes((4, FULL + 1)) == 8 * (16 + FULL + 1)
    model = tiny.make("bert")
    name, batches = "bert.encoder.layer.0.intermediate.dense", [batch_of("bert", [5, 7])]
    whole = measure_moments(model, [name], batches, generator())[name]
    monkeypatch.setattr("lorascope.hf.moments.FULL", 48)
    half = measure_moments(model, [name], batches, generator())[name]
    assert torch.equal(half.right, whole.right)
    assert torch.allclose(half.left, whole.left.diagonal(), rtol=1e-5)
