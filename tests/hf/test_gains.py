"""Gains: responses against finite differences, ridge regression against its normal equations, and what they bring."""

from dataclasses import replace

import pytest
import torch

from hf import tiny
from lorascope.hf import gains
from lorascope.hf.both import load_both
from lorascope.hf.choose import choose
from lorascope.hf.factors import factorise, settled
from lorascope.hf.gains import fit_gains, ridge_by_folds
from lorascope.hf.pairs import open_models
from lorascope.hf.style import Style
from lorascope.hf.texts import read_texts
from lorascope.hf.write import write_files

pytestmark = pytest.mark.hf


def drawn(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_planted_coefficients_are_found():
    responses, truth = drawn(300, 5), torch.tensor([1.0, -2.0, 0.0, 0.5, 3.0], dtype=torch.float64)
    wanted = responses @ truth + 0.05 * drawn(300, 1, 1)[:, 0]
    found = ridge_by_folds(responses, wanted, torch.arange(300))
    assert torch.allclose(found, truth, atol=0.05)
    again = ridge_by_folds(1e6 * responses, wanted, torch.arange(300))
    assert torch.allclose(1e6 * again, found, atol=1e-9)  # a unit of all does not matter


def test_a_column_that_hardly_any_text_uses_gets_hardly_anything():
    responses, wanted = drawn(300, 5), drawn(300, 1, 1)[:, 0]
    wanted = wanted + responses @ torch.tensor([1.0, -2.0, 0.0, 0.5, 3.0], dtype=torch.float64)
    responses[:, 2] = 1e-6 * wanted + 1e-6 * responses[:, 2]
    found = ridge_by_folds(responses, wanted, torch.arange(300))
    assert abs(float(found[2])) < 0.2  # of one size with the others it would get a million
    assert torch.allclose(found[[1, 4]], torch.tensor([-2.0, 3.0], dtype=torch.float64), atol=0.3)


@pytest.mark.parametrize("texts", [0, 1, 9])
def test_too_few_texts_fit_nothing(texts):
    found = ridge_by_folds(drawn(4 * texts, 3), drawn(4 * texts, 1, 1)[:, 0], torch.arange(texts).repeat(4))
    assert torch.equal(found, torch.zeros(3).double())


def test_noise_gets_nothing():
    found = ridge_by_folds(drawn(60, 40), drawn(60, 1, 1)[:, 0], torch.arange(60))
    assert float(found.norm()) < 0.3
    nothing = ridge_by_folds(torch.zeros(10, 3).double(), torch.ones(10).double(), torch.arange(10))
    assert torch.equal(nothing, torch.zeros(3).double())


def test_a_text_is_left_out_whole():
    """Rows of one text that repeat each other must not vouch for each other."""
    few = drawn(30, 28)
    noise = drawn(30, 1, 1)[:, 0]
    repeated = few.repeat_interleave(4, dim=0), noise.repeat_interleave(4), torch.arange(30).repeat_interleave(4)
    assert float(ridge_by_folds(*repeated).norm()) < 0.5
    apart = ridge_by_folds(repeated[0], repeated[1], torch.arange(120))
    assert float(apart.norm()) > 1.0  # the wrong way does see it


@pytest.mark.parametrize("columns", [4, 30])
def test_either_form_solves_the_normal_equations(columns):
    x, y = drawn(12, columns), drawn(12, 1, 1)[:, 0]
    found = gains._ridge(x, y, 0.3)
    assert torch.allclose(x.T @ (x @ found - y) + 0.3 * 12 * found, torch.zeros(columns).double(), atol=1e-9)


@pytest.fixture
def case(tmp_path):
    """Both models, the matrices, their factors at a low rank, and the means that biases take up."""
    base, tuned = tiny.pair("bert", tmp_path, size=0.3)
    tiny.tokenizer(tuned)
    models = open_models(base, tuned)
    choice = choose(models, "peft", None, None, all_biases=True)
    batches = read_texts(tiny.texts(tmp_path / "texts.txt"), [tmp_path / "tuned"], 8)
    generator = torch.Generator().manual_seed(4)
    means = [
        torch.randn(pair.shape[1], generator=generator, dtype=torch.float64) if pair.kind == "linear" else None
        for pair in choice.factors
    ]

    def make(rank, scale=1.0):
        found = []
        for pair, mean in zip(choice.factors, means, strict=True):
            plain = factorise(pair, rank)
            found.append(settled(pair, replace(plain, B=plain.B * scale), mean))
        write_files(tmp_path / "start", models, choice, found, Style("peft", torch.float32, "start", rank))
        return load_both(models, choice, tmp_path / "start", batches, "cpu"), choice, found, means

    return make


def test_responses_against_finite_differences(case):
    both, choice, found, means = case(2)
    responses, wanted, texts = gains._responses(both, choice, found, means, lambda _: None)
    assert len(responses) == len(wanted) == 2 * 40  # three classes: two directions a text
    assert sorted(texts.tolist()) == sorted([*range(40), *range(40)])
    names = [pair.name for pair in choice.factors]
    step = 0.05
    moved = 0
    for wanted_name in ("bert.encoder.layer.1.output.dense.weight", "bert.embeddings.word_embeddings.weight"):
        index = names.index(wanted_name)
        column = sum(factors.rank for factors in found[:index])

        def outputs(sign, index=index):
            scale = torch.tensor([1 + sign * step, 1.0])
            tried = list(found)
            tried[index] = replace(found[index], B=found[index].B * scale)
            gains._put(both, choice, found, tried, means)
            with torch.no_grad():
                value = both.student(**both.batches[0]).logits.double()
            gains._put(both, choice, tried, found, means)
            return value

        slope = (outputs(1) - outputs(-1)) / (2 * step)
        with torch.no_grad():
            p = both.student(**both.batches[0]).logits.double().softmax(-1)
        # both directions together give the Fisher norm, whatever their order and signs
        information = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        expected = torch.einsum("bi,bij,bj->b", slope, information, slope)
        got = responses[texts < 8, column].reshape(-1).square()
        per_text = got[:16].reshape(2, 8).sum(0)
        assert torch.allclose(per_text, expected, rtol=0.02, atol=1e-12)
        moved += float(expected.sum()) > 0
    assert moved == 2


def test_what_was_halved_is_doubled(case):
    both, choice, found, means = case(32, scale=0.5)
    before = both.divergence()
    fitted = fit_gains(both, choice, found, means)
    made = fitted.factors
    assert both.divergence() < 0.3 * before
    assert fitted.before == before
    assert fitted.after == both.divergence()
    inside = [index for index, pair in enumerate(choice.factors) if pair.name in both.factors]
    total = [sum(float(many[index].B.norm() ** 2) for index in inside) for many in (found, made)]
    assert total[1] > 1.2 * total[0]


def test_a_step_that_does_harm_is_undone(case, monkeypatch):
    both, choice, found, means = case(2)
    before = both.divergence()
    monkeypatch.setattr(gains, "ridge_by_folds", lambda responses, *_: torch.full((responses.shape[1],), 50.0).double())
    made = fit_gains(both, choice, found, means).factors
    assert all(torch.equal(new.B, old.B) for new, old in zip(made, found, strict=True))
    assert both.divergence() == pytest.approx(before, rel=1e-3)
