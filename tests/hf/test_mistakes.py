"""A mistake leaves nothing behind, and no output takes the place of what is read."""

import multiprocessing
import os
from pathlib import Path

import pytest
import torch
import transformers

from hf import tiny
from lorascope.errors import CheckpointError, SpecError
from lorascope.hf import extract, open_models, rank_report
from lorascope.hf.factors import Factors
from lorascope.hf.texts import read_texts, texts_for
from lorascope.hf.work import open_work

pytestmark = pytest.mark.hf


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tiny.pair("llama", tmp_path_factory.mktemp("made"), rank=2)


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"parameters": 0}, "--params must be at least 1"),
        ({"parameters": 7}, "--params must be at least"),
        ({"max_error": 1e-30}, "--max-error must be at least"),
        ({"calibration": b""}, "at least one line"),
        ({"calibration": b" \n\t\n"}, "at least one line"),
        ({"calibration": b"\xff\xfe w1 \x80\n"}, "UTF-8"),
        ({"calibration": None}, "UTF-8"),
        ({"calibration": b"w1 w2\n"}, "need a tokenizer"),
    ],
)
def test_nothing_is_left_behind(made, options, says, tmp_path):
    texts = tmp_path / "texts.txt"
    if "calibration" in options:
        if options["calibration"] is not None:
            texts.write_bytes(options["calibration"])
        options = {"calibration": texts}
    before = listing(tmp_path)
    with pytest.raises((SpecError, CheckpointError), match=says) as caught:
        extract(*made, tmp_path / "a" / "b" / "out", **options)
    assert "\n" not in str(caught.value)
    assert listing(tmp_path) == before


def test_pictures_have_no_texts(tmp_path):
    base, tuned = tiny.pair("vit", tmp_path / "models")
    tiny.tokenizer(tuned)
    texts = tiny.texts(tmp_path / "texts.txt")
    before = listing(tmp_path)
    with pytest.raises(CheckpointError, match="takes pixel_values"):
        extract(base, tuned, tmp_path / "out", calibration=texts)
    with pytest.raises(CheckpointError, match="takes pixel_values"):
        rank_report(base, tuned, texts=texts)
    assert listing(tmp_path) == before


def test_work_that_was_begun_stays(tmp_path):
    work = open_work(tmp_path / "new" / "out", {"rank": 4})
    assert not work.begun
    work.save(0, Factors(torch.ones(1, 3), torch.ones(2, 1), 1.0, 0.5, 0.1, torch.ones(1), 1.5, True, None))
    assert work.begun
    work.discard()
    assert listing(tmp_path) == []


def test_what_is_read_is_not_replaced(tmp_path):
    base, tuned = tiny.pair("llama", tmp_path, rank=2)
    adapter = tmp_path / "adapter"
    extract(base, tuned, adapter, rank=2, outputs=False)
    before = listing(tmp_path)
    for source, out in (
        (tuned, Path(base)),
        (str(adapter), adapter),
        (str(adapter), tmp_path / "base" / ".." / "adapter"),
        (tuned, tmp_path),
    ):
        with pytest.raises(SpecError, match="--out must") as caught:
            extract(base, source, out, rank=1)
        assert "\n" not in str(caught.value)
        assert listing(tmp_path) == before
    extract(base, tuned, adapter, rank=1, outputs=False)  # an earlier adapter may be


def test_places_that_cannot_be(made, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = listing(tmp_path)
    monkeypatch.chdir(tmp_path / "here")
    for out, says in (
        (Path(), "current folder"),
        (Path(".."), "current folder"),
        (tmp_path / "here", "current folder"),
        (tmp_path / "link", "a link to nothing"),
        (tmp_path / ("a" * 300), "too long"),
        (tmp_path / ("a" * 250), "too long"),
    ):
        with pytest.raises(SpecError, match=says):
            extract(*made, out, rank=1)
    assert listing(tmp_path) == before


def ask_again(out, count):
    for _ in range(count):
        work = open_work(out, {"rank": 4}, alone=False)
        if not (work.folder / "matrix-00000.safetensors").is_file():
            os._exit(1)
    os._exit(0)


def test_processes_of_one_run_keep_what_is_there(tmp_path):
    out = tmp_path / "out"
    work = open_work(out, {"rank": 4})
    work.save(0, Factors(torch.ones(1, 3), torch.ones(2, 1), 1.0, 0.5, 0.1, torch.ones(1), 1.5, True, None))
    when = (work.folder / "state.json").stat().st_mtime_ns
    context = multiprocessing.get_context("fork")
    running = [context.Process(target=ask_again, args=(out, 300)) for _ in range(3)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0, 0, 0]
    assert (work.folder / "state.json").stat().st_mtime_ns == when
    work.close()


@pytest.mark.parametrize("case", ["gpt2", "roberta"])
def test_texts_are_cut_to_the_positions(case, tmp_path, monkeypatch):
    kind, limit, settings = "gpt2", 64, {}
    if case == "roberta":
        kind, limit, settings = "bert", 64 - 3, {"pad_token_id": 2}
        monkeypatch.setitem(tiny.CASES, "bert", ("RobertaForSequenceClassification", tiny.CASES["bert"][1]))
        monkeypatch.setitem(tiny.CONFIGS, "RobertaForSequenceClassification", "RobertaConfig")
    base, tuned = tiny.pair(kind, tmp_path, rank=1, **settings)
    tiny.tokenizer(tuned)
    texts = tmp_path / "texts.txt"
    texts.write_text("w5 " * 300)
    models = open_models(base, tuned)
    assert texts_for(models, texts)[0]["input_ids"].shape == (1, limit)
    assert rank_report(base, tuned, texts=texts).recommendation.divergences


def test_tokens_that_the_model_does_not_have(tmp_path):
    base, tuned = tiny.pair("llama", tmp_path, vocab_size=60)
    tiny.tokenizer(tuned)
    texts = tmp_path / "texts.txt"
    texts.write_text("w5 w55\n")
    assert texts_for(open_models(base, tuned), texts)
    texts.write_text("w5 w56\n")
    with pytest.raises(CheckpointError, match="below the model's 60, got 60"):
        texts_for(open_models(base, tuned), texts)


@pytest.mark.parametrize(
    ("name", "content"), [("tokenizer.json", "{}"), ("tokenizer.json", "garbage"), ("vocab.txt", "")]
)
def test_tokenizers_that_are_none(name, content, tmp_path):
    tiny.save(tiny.make("llama"), tmp_path / "model")
    (tmp_path / "model" / name).write_text(content)
    texts = tiny.texts(tmp_path / "texts.txt")
    with pytest.raises(CheckpointError, match=r"the tokenizer in .*model") as caught:
        read_texts(texts, [tmp_path / "model"])
    assert "\n" not in str(caught.value)
    assert transformers.utils.logging.get_verbosity() == transformers.utils.logging.ERROR
