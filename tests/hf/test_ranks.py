"""The rank a fine-tune needs: found where it is known, and never what rounding makes."""

import pytest
import torch
import transformers

from hf import minilm, tiny
from lorascope.hf import extract, open_models, rank_report, verify
from lorascope.hf.attention import attentions
from lorascope.hf.head_products import product_gap
from lorascope.hf.spectrum import Spectrum, difference_and_floor, noise_floor, spectrum, unit_in_last_place

pytestmark = pytest.mark.hf


def weights(m, n, generator):
    return 0.03 * torch.randn(m, n, generator=generator)


def low_rank(m, n, rank, generator, spread):
    """Of norm one; singular values from 1 down to `spread`."""
    left = torch.linalg.qr(torch.randn(m, rank, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(n, rank, generator=generator))[0]
    change = (left * torch.logspace(0, torch.log10(torch.tensor(spread)).item(), rank)) @ right.T
    return change / change.norm()


@pytest.mark.parametrize("size", [0.01, 0.003])
@pytest.mark.parametrize("shape", [(384, 384), (384, 1536), (512, 256)])
@pytest.mark.parametrize("spread", [1.0, 0.25])
def test_the_true_rank_is_seen_through_bfloat16(size, shape, spread, generator):
    base = weights(*shape, generator)
    tuned = base + size * base.norm() * low_rank(*shape, 16, generator, spread)
    stored = [weight.bfloat16().float() for weight in (base, tuned)]
    floor = noise_floor(*stored, (torch.bfloat16, torch.bfloat16))
    found = spectrum(stored[1] - stored[0], floor, generator)
    assert abs(found.rank - 16) <= 2
    assert found.exact_rank > 0.9 * min(shape)  # what counts every singular value sees nothing
    assert abs(found.epsilon_rank(0.01) - 16) <= 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_alone_stays_below_the_floor(dtype, generator):
    base = weights(300, 500, generator)
    moved = base + 0.02 * base.norm() * low_rank(300, 500, 1, generator, 1.0)
    stored = [weight.to(dtype).float() for weight in (base, moved)]
    noise = (stored[1] - stored[0]) - (moved - base)
    floor = noise_floor(*stored, (dtype, dtype))
    assert 0.8 * floor < float(torch.linalg.matrix_norm(noise, 2)) < 1.02 * floor


@pytest.mark.parametrize("shape", [(16, 16), (32, 32), (64, 32), (64, 64), (128, 64)])
def test_small_matrices_of_rounding_alone_have_no_rank(shape, generator):
    for _ in range(100):
        base = weights(*shape, generator)
        tuned = base.bfloat16().float()
        floor = noise_floor(base, tuned, (torch.float32, torch.bfloat16))
        largest = float(torch.linalg.matrix_norm(tuned - base, 2))
        assert 0.6 * floor < largest < floor


@pytest.mark.parametrize("shape", [(64, 64), (128, 64)])
def test_small_matrices_keep_their_rank(shape, generator):
    base = weights(*shape, generator)
    tuned = (base + 0.01 * base.norm() * low_rank(*shape, 4, generator, 0.5)).bfloat16().float()
    base = base.bfloat16().float()
    floor = noise_floor(base, tuned, (torch.bfloat16, torch.bfloat16))
    assert spectrum(tuned - base, floor, generator).rank == 4


def test_rows_that_did_not_change_have_no_rounding(generator):
    base = weights(1000, 64, generator).bfloat16().float()
    tuned = base.clone()
    tuned[:50] += 0.1 * weights(50, 64, generator)
    types = torch.float32, torch.bfloat16
    alone = noise_floor(base[:50], tuned[:50], types)
    assert noise_floor(base, tuned, types) == pytest.approx(alone)
    assert noise_floor(base, base, types) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_difference_and_its_floor_in_one_pass(dtype, generator, monkeypatch):
    base = weights(300, 70, generator)
    tuned = base + 0.01 * weights(300, 70, generator)
    tuned[20:90] = base[20:90]
    stored = base.to(dtype), tuned.to(dtype)
    wide = [weight.float() for weight in stored]
    units = [unit_in_last_place(weight, dtype)[(wide[0] != wide[1]).any(dim=1)] for weight in wide]
    scale = (sum(float(unit.double().square().mean()) for unit in units) / 12) ** 0.5
    monkeypatch.setattr("lorascope.hf.spectrum._SLICE", 1000)  # slices that do not come out even
    difference, floor = difference_and_floor(*stored, (dtype, dtype))
    assert torch.equal(difference, wide[1] - wide[0])
    edge = 230**0.5 + 70**0.5
    margin = (1 + 7 * (230**-0.5 + 70**-0.5) ** (1 / 3) / edge) ** 0.5
    assert floor == pytest.approx(scale * edge * margin, rel=1e-5)
    assert noise_floor(*wide, (dtype, dtype)) == pytest.approx(floor, rel=1e-12)
    turned, other = difference_and_floor(stored[0].T, stored[1].T, (dtype, dtype))
    assert torch.equal(turned, difference.T)
    assert other > 0


def test_units_in_the_last_place(generator):
    values = torch.randn(1000, generator=generator) * torch.logspace(-6, 4, 1000)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        given = values.to(dtype)
        given = given[given.abs() >= torch.finfo(dtype).smallest_normal].float()
        above = torch.nextafter(given.abs().to(dtype), torch.tensor(torch.inf, dtype=dtype)).float()
        assert torch.equal(unit_in_last_place(given, dtype), above - given.abs())


def test_epsilon_ranks():
    values = torch.tensor([4.0, 3.0, 1e-3], dtype=torch.float64)
    found = Spectrum(values, 5.0, 1e-2, True, 3)
    assert [found.epsilon_rank(eps) for eps in (0.9, 0.6, 0.59, 0.01)] == [1, 1, 2, 2]
    assert (found.rank, found.stable_rank) == (2, 25 / 16)
    assert Spectrum(values, 50.0, 0.0, False, 3).epsilon_rank(0.1) is None  # more than is known
    assert Spectrum(values[:0], 0.0, 0.0, True, 0).epsilon_rank(0.1) == 0


def test_large_matrices_are_resolved_as_far_as_they_need(generator, monkeypatch):
    whole = weights(200, 300, generator) * 1e-3 + low_rank(200, 300, 12, generator, 0.5)
    all_values = spectrum(whole, 0.001, generator)
    monkeypatch.setattr("lorascope.hf.spectrum.FULL", 100)
    monkeypatch.setattr("lorascope.hf.spectrum.LEADING", 20)
    some = spectrum(whole, 0.001, generator)
    assert torch.allclose(some.values[:12], all_values.values[:12], rtol=1e-4)
    assert (some.rank, some.complete) == (all_values.rank, True)
    flat = weights(200, 300, generator)
    every = spectrum(flat, 0.0, generator)
    assert every.complete
    assert torch.allclose(every.values, torch.linalg.svdvals(flat.double()), rtol=1e-6)
    assert every.seconds > 0
    monkeypatch.setattr("lorascope.hf.spectrum.EXACT", 150)
    assert spectrum(flat, 0.0, generator).complete is False


@pytest.mark.parametrize("shape", [(700, 500), (500, 700)])
@pytest.mark.parametrize(("decay", "above", "known"), [(2.0, 30, 40), (1.0, 30, 40), (0.1, 300, 500)])
def test_more_values_are_computed_until_they_reach_the_floor(shape, decay, above, known, generator, monkeypatch):
    monkeypatch.setattr("lorascope.hf.spectrum.FULL", 100)
    monkeypatch.setattr("lorascope.hf.spectrum.LEADING", 20)
    monkeypatch.setattr("lorascope.hf.spectrum._LONG", 30000)  # several slices
    left, right = (torch.linalg.qr(torch.randn(size, 500, generator=generator))[0] for size in shape)
    values = torch.arange(1.0, 501) ** -decay
    found = spectrum((left * values) @ right.T, (above + 0.5) ** -decay, generator)
    assert found.complete
    assert len(found.values) == known
    assert found.rank == pytest.approx(above, abs=1)
    assert torch.allclose(found.values[:20], values[:20].double(), rtol=1e-3)
    assert found.epsilon_rank(0.1) is not None


@pytest.mark.parametrize("shapes", [(3, 10, 8), (8, 6, 6), (1, 4, 4)])
def test_product_gaps_without_the_product(shapes, generator):
    middle, out, inp = shapes
    first = [torch.randn(middle, inp, generator=generator, dtype=torch.float64) for _ in range(2)]
    second = [torch.randn(out, middle, generator=generator, dtype=torch.float64) for _ in range(2)]
    values, norm, base = product_gap((first[0], second[0]), (first[1], second[1]))
    oracle = torch.linalg.svdvals(second[1] @ first[1] - second[0] @ first[0])
    assert torch.allclose(values[: len(oracle)], oracle[: len(values)], atol=1e-12)
    assert norm == pytest.approx(float(oracle.norm()))
    assert base == pytest.approx(float((second[0] @ first[0]).norm()))


BERT_PARTS = "self.query", "self.key", "self.value", "output.dense"


@pytest.mark.parametrize("case", ["llama", "gpt2", "bert", "t5", "vit"])
def test_heads_are_the_models_own(case, tmp_path):
    """The gap of a head's value-output product, against weights cut by hand."""
    base, tuned = tiny.pair(case, tmp_path)
    models = open_models(base, tuned)
    found = attentions(models.model, models.pairs)
    assert len(found) == {"t5": 6}.get(case, 2)
    assert {attention.heads for attention in found} == {4}
    assert found[0].groups == {"llama": 2}.get(case, 4)
    report = rank_report(base, tuned)
    gaps = [row.gap for row in report.heads if row.gap.head == 3][:2]
    pairs = {pair.name: pair for pair in models.pairs}
    names = {
        "llama": [f"model.layers.0.self_attn.{k}_proj.weight" for k in "qkvo"],
        "bert": [f"bert.encoder.layer.0.attention.{k}.weight" for k in BERT_PARTS],
        "t5": [f"encoder.block.0.layer.0.SelfAttention.{k}.weight" for k in "qkvo"],
        "vit": [f"vit.layers.0.attention.{k}_proj.weight" for k in "qkvo"],
    }.get(case)
    products = []
    for which in ("base", "tuned"):
        if case == "gpt2":
            fused = getattr(pairs["transformer.h.0.attn.c_attn.weight"], which)().T
            q, k, v = fused.split(32)
            o = getattr(pairs["transformer.h.0.attn.c_proj.weight"], which)().T
        else:
            q, k, v, o = (getattr(pairs[name], which)() for name in names)
        group = 1 if case == "llama" else 3
        rows, shared = slice(24, 32), slice(8 * group, 8 * group + 8)
        products.append((k[shared].T @ q[rows], o[:, rows] @ v[shared]))
    for gap, old, new in zip(gaps, *products, strict=True):
        assert gap.spectrum.norm == pytest.approx(float((new - old).norm()), rel=1e-4)
        assert gap.relative == pytest.approx(float((new - old).norm() / old.norm()), rel=1e-4)
        assert gap.spectrum.exact_rank == 16  # twice the head's width: the exact rank says nothing
        assert gap.needed == 8


def test_a_report_of_a_known_rank(tmp_path):
    report = rank_report(*tiny.pair("llama", tmp_path, size=0.1, rank=3))
    assert {row.spectrum.rank for row in report.matrices} == {3}
    assert report.recommendation.rank == 3
    assert "99 %" in report.recommendation.reason
    assert [cost.rank for cost in report.recommendation.costs] == [1, 2, 3]
    energies = [cost.energy for cost in report.recommendation.costs]
    assert energies == sorted(energies)
    assert energies[-1] == pytest.approx(1)
    body = [row for row in report.matrices if row.kind != "head"]
    assert report.recommendation.costs[-1].parameters == 3 * sum(sum(row.shape) for row in body)
    assert all(row.relative == pytest.approx(0.1, rel=1e-3) for row in report.matrices)
    looser = rank_report(str(tmp_path / "base"), str(tmp_path / "tuned"), tolerance=0.8)
    assert looser.recommendation.rank < 3


def test_texts_ask_for_the_rank_that_does_it(tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm.folder())
    base = tiny.make("qwen2", vocab_size=len(tokenizer))
    # one direction matters: the others are small
    changed = tiny.tune(tiny.make("qwen2", vocab_size=len(tokenizer)), size=0.5, rank=2, only=lambda n: "layers" in n)
    tuned = tiny.tune(changed, size=0.003, seed=3, only=lambda name: "layers" in name)
    folders = tiny.save(base, tmp_path / "base"), tiny.save(tuned, tmp_path / "tuned")
    tokenizer.save_pretrained(tmp_path / "tuned")
    texts = tmp_path / "texts.txt"
    texts.write_text("a film\nan uneven but moving film\nnothing about it is good\n")
    report = rank_report(*folders, texts=texts)
    found = report.recommendation
    assert found.rank == 2
    assert "99 % of the KL" in found.reason
    by_rank = dict(found.divergences)
    assert by_rank[2] <= 0.01 * by_rank[0] < by_rank[1]
    extract(*folders, tmp_path / "out", rank=2)
    # heads' products are fitted on top of what the ranks were tried with
    assert verify(*folders, str(tmp_path / "out"), texts).functional.kl <= by_rank[2] * 1.02


def test_the_same_model_twice(tmp_path):
    base = tiny.save(tiny.make("mixtral"), tmp_path / "base")
    report = rank_report(base, base)
    assert report.recommendation.rank == 0
    assert {row.spectrum.rank for row in report.matrices} == {0}
    assert sum(report.whole.values()) == 0
    assert len([row for row in report.matrices if "gate_up_proj" in row.name]) == 8  # one each expert
    assert len(report.heads) == 2 * 2 * 4


def test_new_rows_are_no_difference(tmp_path):
    base, tuned = tiny.make("llama"), tiny.make("llama", vocab_size=104)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            old = dict(base.named_parameters())[name]
            parameter[: len(old)] = old
    report = rank_report(tiny.save(base, tmp_path / "base"), tiny.save(tuned, tmp_path / "tuned"))
    assert {row.spectrum.rank for row in report.matrices} == {0}
    assert {row.name: row.new_rows for row in report.matrices if row.new_rows} == {
        "model.embed_tokens.weight": 4,
        "lm_head.weight": 4,
    }
