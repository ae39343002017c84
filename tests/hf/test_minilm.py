"""A real pretrained encoder, really fine-tuned: ranks, adapter, accuracy."""

import peft
import pytest
import transformers
from filelock import FileLock

from hf import minilm
from lorascope.hf import extract, rank_report, verify
from lorascope.hf.quiet import quiet

pytestmark = [
    pytest.mark.hf,
    pytest.mark.slow,
    pytest.mark.skipif(not minilm.GLUE.is_dir(), reason=f"needs the SST-2 rows in {minilm.GLUE}"),
]


@pytest.fixture(scope="session")
def tuned(tmp_path_factory):
    """Trained once, whichever worker comes first."""
    root = tmp_path_factory.getbasetemp()
    shared = (root.parent if root.name.startswith("popen-") else root) / "minilm-sst2"
    with FileLock(f"{shared}.lock"), quiet():
        return str(shared) if shared.exists() else minilm.fine_tune(shared)


def test_exact_ranks_say_nothing_and_epsilon_ranks_do(tuned):
    report = rank_report(minilm.folder(), tuned)
    assert {row.gap.spectrum.exact_rank for row in report.heads} == {64}  # twice the heads' width
    assert len(report.heads) == 2 * 6 * 12
    body = [row for row in report.matrices if "encoder" in row.name]
    assert len(body) == 36
    assert all(row.spectrum.exact_rank > 300 for row in body)
    assert all(row.spectrum.epsilon_rank(0.5) < 150 for row in body)
    assert 0 < report.recommendation.rank <= 384


def test_an_adapter_reads_as_well_as_the_fine_tune(tuned, tmp_path):
    texts, _ = minilm.rows("dev", 100)
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts))
    divergences = []
    for rank in (2, 8):
        folder = tmp_path / f"rank{rank}"
        extract(minilm.folder(), tuned, folder, rank=rank)
        found = verify(minilm.folder(), tuned, str(folder), file)
        assert found.faults == []
        divergences.append(found.functional.kl)
        assert found.functional.base_kl > 10 * found.functional.kl
    assert divergences[1] < divergences[0]
    with quiet():
        full = transformers.AutoModelForSequenceClassification.from_pretrained(tuned)
        base = transformers.AutoModelForSequenceClassification.from_pretrained(minilm.folder(), num_labels=2)
        adapted = peft.PeftModel.from_pretrained(base, tmp_path / "rank8").eval()
        accuracy = minilm.accuracy(full)
        assert accuracy > 0.65
        assert minilm.accuracy(adapted) >= accuracy - 0.03


@pytest.mark.timeout(900)
def test_calibration_and_refinement_bring_it_nearer_on_other_texts(tuned, tmp_path):
    held_out, calibration = tmp_path / "held-out.txt", tmp_path / "calibration.txt"
    held_out.write_text("\n".join(minilm.rows("dev", 200)[0]))
    calibration.write_text("\n".join(minilm.rows("train", 240, 30_000)[0]))
    kl, parameters = {}, {}
    for name, options in (("plain", {}), ("weighted", {"calibration": calibration}),
                          ("refined", {"calibration": calibration, "refine_steps": 30})):  # fmt: skip
        found = extract(minilm.folder(), tuned, tmp_path / name, rank=4, exclude="embeddings", outputs=False, **options)
        verified = verify(minilm.folder(), tuned, str(tmp_path / name), held_out)
        assert verified.faults == []
        kl[name], parameters[name] = verified.functional.kl, found.parameters
    assert parameters["refined"] == parameters["weighted"] <= parameters["plain"]
    assert kl["weighted"] <= 0.65 * kl["plain"]
    assert kl["refined"] <= 0.4 * kl["plain"]


def test_heads_fitted_together_do_not_cost_outputs(tuned, tmp_path, monkeypatch):
    """Values and outputs fitted to their products, against each matrix's own best approximation."""
    held_out = tmp_path / "held-out.txt"
    held_out.write_text("\n".join(minilm.rows("dev", 200)[0]))
    kl = {}
    for name in ("fitted", "plain"):
        extract(minilm.folder(), tuned, tmp_path / name, rank=8, outputs=False)
        kl[name] = verify(minilm.folder(), tuned, str(tmp_path / name), held_out).functional.kl
        monkeypatch.setattr("lorascope.hf.stages.fit_heads", lambda _models, _pairs, found, *_: found)
    assert kl["fitted"] <= 1.02 * kl["plain"]
