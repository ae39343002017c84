"""A run's folder is its own, is taken up by the same question alone, and leaves nothing behind."""

import errno
import os
import sys
from contextlib import closing, suppress

import pytest
import torch
from safetensors import SafetensorError

from hf import tiny
from lorascope.errors import CheckpointError, SpecError
from lorascope.hf import extract, saving
from lorascope.hf.factors import Factors
from lorascope.hf.saving import save_tensors
from lorascope.hf.work import open_work, publish

pytestmark = pytest.mark.hf
MODULE = sys.modules["lorascope.hf.extract"]
WEIGHTS = "adapter_model.safetensors"
FACTORS = Factors(torch.ones(1, 3), torch.ones(2, 1), 1.0, 0.5, 0.1, torch.ones(1), 1.5, True, None)


class KilledError(BaseException):
    """Stands for a kill."""


def killed(*_given, **_named):
    raise KilledError


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tiny.pair("llama", tmp_path_factory.mktemp("made"))


def test_work_is_for_one_run(tmp_path):
    out = tmp_path / "out"
    with closing(open_work(out, {"rank": 4})) as work:
        work.save(0, FACTORS)
        for asked in ({"rank": 4}, {"rank": 8}):
            with pytest.raises(SpecError, match=r"one run at a time, but another is at work on .*out; wait") as caught:
                open_work(out, asked)
            assert "\n" not in str(caught.value)
        assert work.load(0) is not None
    assert listing(tmp_path) == [".out.lorascope-work"]
    with closing(open_work(out, {"rank": 4})) as again:
        assert again.load(0) is not None


def test_what_a_killed_run_had_not_finished_is_cleared_by_the_next_run_alone(tmp_path):
    out, folder = tmp_path / "out", tmp_path / ".out.lorascope-work"
    open_work(out, {"rank": 4}).close()
    for name in ("matrix-00000.1.part", ".tmpAbc"):
        (folder / name).touch()
    open_work(out, {"rank": 4}, alone=False)  # a further process of a run
    assert len(listing(folder)) == 3
    open_work(out, {"rank": 4}).close()
    assert listing(folder) == ["state.json"]


def test_publishing_clears_everything_away(tmp_path, monkeypatch):
    work = open_work(tmp_path / "out", {"rank": 4})
    ready = work.folder / "ready"
    ready.mkdir()
    (ready / "file").write_text("whole")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(SpecError, match="No space left"):
            publish(work, ready, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    publish(work, ready, tmp_path / "out")
    assert listing(tmp_path) == ["out"]


def test_a_second_run_beside_the_first_is_refused_and_spoils_nothing(made, tmp_path, monkeypatch):
    extract(*made, tmp_path / "clean", rank=2)
    real, said = MODULE.write_adapter, []

    def meanwhile(*given):
        for rank in (2, 3):
            with pytest.raises(SpecError) as caught:
                extract(*made, tmp_path / "out", rank=rank)
            said.append(str(caught.value))
        extract(*made, tmp_path / "out", rank=3, dry_run=True)  # writes nothing
        return real(*given)

    monkeypatch.setattr(MODULE, "write_adapter", meanwhile)
    extract(*made, tmp_path / "out", rank=2)
    assert [text.partition(",")[0] for text in said] == ["--out must be of one run at a time"] * 2
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (tmp_path / "clean" / WEIGHTS).read_bytes()
    assert listing(tmp_path) == ["clean", "out"]


def test_a_mistake_says_that_the_work_stays(made, tmp_path, monkeypatch):
    def faulty(*_given):
        raise CheckpointError("the disk is faulty")

    with monkeypatch.context() as patched:
        patched.setattr(MODULE, "write_adapter", faulty)
        with pytest.raises(CheckpointError) as caught:
            extract(*made, tmp_path / "out", rank=2)
    folder = tmp_path / ".out.lorascope-work"
    assert str(caught.value) == (
        f"the disk is faulty; what is done is kept in {folder}, where the same command goes on"
    )
    assert listing(tmp_path) == [folder.name]  # and no lock
    when = (folder / "matrix-00000.safetensors").stat().st_mtime_ns
    seen = []

    def progress(_share, what):
        if "writing" in what:
            seen.append((folder / "matrix-00000.safetensors").stat().st_mtime_ns)

    extract(*made, tmp_path / "out", rank=2, progress=progress)  # the error is still at hand, its lock is not
    assert seen == [when]
    assert listing(tmp_path) == ["out"]


def test_work_of_another_question_is_not_taken_up(tmp_path, monkeypatch):
    base, tuned = tiny.pair("bert", tmp_path, size=0.15)
    tiny.tokenizer(tuned)
    options = {"rank": 4, "calibration": tiny.texts(tmp_path / "texts.txt", 12), "outputs": False}
    extract(base, tuned, tmp_path / "clean", **options)
    with monkeypatch.context() as patched:
        patched.setattr(MODULE, "write_adapter", killed)
        with pytest.raises(KilledError):
            extract(base, tuned, tmp_path / "out", **options, exclude="LayerNorm")
    assert (tmp_path / ".out.lorascope-work" / "joined.txt").is_file()
    extract(base, tuned, tmp_path / "out", **options)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (tmp_path / "clean" / WEIGHTS).read_bytes()


def replaced(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


CHANGES = {
    "nothing": lambda _folder: {},
    "the place of the texts": lambda folder: {"calibration": (folder / "texts.txt").rename(folder / "moved.txt")},
    "the texts": lambda folder: {"calibration": tiny.texts(folder / "texts.txt", 12, seed=4)},
    "no texts": lambda _folder: {"calibration": None},
    "the configuration": lambda folder: replaced(folder / "tuned" / "config.json", "1e-12", "1e-11"),
    "the base's configuration": lambda folder: replaced(folder / "base" / "config.json", "1e-12", "1e-11"),
    "the tokenizer": lambda folder: replaced(folder / "tuned" / "tokenizer.json", '"w95": 99', '"w95": 98'),
    "biases and values": lambda _folder: {"exclude": "LayerNorm"},
    "the version": lambda _folder: {"version": "0.0"},
    "who loads it": lambda _folder: {"profile": "vllm", "exclude": "classifier"},
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_decides_the_question(what, tmp_path, monkeypatch):
    base, tuned = tiny.pair("bert", tmp_path, size=0.15)
    tiny.tokenizer(tuned)
    texts = tmp_path / "texts.txt"
    texts.write_text("w5 w95\nw7 w95 w8\n")
    asked = []

    def opened(_out, question, **_named):
        asked.append(question)
        raise KilledError

    def ask(**options):
        monkeypatch.setattr(MODULE, "open_work", opened)
        monkeypatch.setattr(MODULE, "__version__", options.pop("version", "0.1.0"))
        with suppress(KilledError):
            extract(base, tuned, tmp_path / "out", **{"rank": 4, "calibration": texts, **options})

    ask()
    ask(**(CHANGES[what](tmp_path) or {}))
    assert len(asked) == 2
    assert (asked[0] == asked[1]) == (what in {"nothing", "the place of the texts"})


def test_an_adapters_scale_decides_too(tmp_path, monkeypatch):
    base, tuned = tiny.pair("llama", tmp_path, rank=2)
    extract(base, tuned, tmp_path / "adapter", rank=2, outputs=False)
    states = []
    for alpha in (None, 7):
        if alpha is not None:
            replaced(tmp_path / "adapter" / "adapter_config.json", '"lora_alpha": 2', f'"lora_alpha": {alpha}')
        with monkeypatch.context() as patched:
            patched.setattr(MODULE, "write_adapter", killed)
            with pytest.raises(KilledError):
                extract(base, str(tmp_path / "adapter"), tmp_path / "out", rank=2)
        states.append((tmp_path / ".out.lorascope-work" / "state.json").read_text())
    assert states[0] != states[1]


FULL = {
    "safetensors": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    "older safetensors": SafetensorError('IoError(Os { code: 28, message: "No space left on device" })'),
    "python": OSError(errno.ENOSPC, "No space left on device"),
}


def failing(monkeypatch, error, when):
    """The disk is full from the first file on for which ``when`` holds; what fits of it is there."""
    real = saving.save_file

    def full(tensors, path, metadata):
        if when(path.name):
            path.write_bytes(b"half of it")
            raise error
        real(tensors, path, metadata=metadata)

    monkeypatch.setattr(saving, "save_file", full)


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_a_file_is_whole_or_absent_on_a_full_disk(error, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": torch.ones(2)}, {})
    before = path.read_bytes()
    failing(monkeypatch, error, lambda _name: True)
    with pytest.raises(SpecError, match=f"cannot write to {tmp_path} .*No space left.*; make room there") as caught:
        save_tensors(path, {"a": torch.zeros(2)}, {})
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert listing(tmp_path) == ["a.safetensors"]


def test_faults_of_tensors_are_not_the_disks(tmp_path, monkeypatch):
    failing(monkeypatch, SafetensorError("Error while serializing: invalid tensor"), lambda _name: True)
    with pytest.raises(SafetensorError, match="invalid tensor"):
        save_tensors(tmp_path / "a.safetensors", {"a": torch.ones(2)}, {})
    assert listing(tmp_path) == []


@pytest.mark.parametrize("full", ["matrix-00000", "matrix-00003", "adapter_model"])
@pytest.mark.parametrize("error", [FULL["safetensors"], FULL["python"]], ids=["safetensors", "python"])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(made, full, error, tmp_path, monkeypatch):
    extract(*made, tmp_path / "clean", rank=2, outputs=False)
    with monkeypatch.context() as patched:
        failing(patched, error, lambda name: name.startswith(full))
        with pytest.raises(SpecError) as caught:
            extract(*made, tmp_path / "out", rank=2, outputs=False)
    said, folder = str(caught.value), tmp_path / ".out.lorascope-work"
    assert said.startswith(f"cannot write to {folder}")
    assert "No space left" in said
    assert "\n" not in said
    assert ("the same command goes on" in said) == (full != "matrix-00000")
    assert listing(tmp_path) == ["clean"] if full == "matrix-00000" else [folder.name, "clean"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"half of it"]
    extract(*made, tmp_path / "out", rank=2, outputs=False)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (tmp_path / "clean" / WEIGHTS).read_bytes()
    assert listing(tmp_path) == ["clean", "out"]


def test_moments_do_not_fit_onto_the_disk(tmp_path, monkeypatch):
    base, tuned = tiny.pair("bert", tmp_path / "models")
    tiny.tokenizer(tuned)
    texts = tiny.texts(tmp_path / "texts.txt", 4)
    failing(monkeypatch, FULL["safetensors"], lambda name: "layer.1" in name)
    with pytest.raises(SpecError, match=r"cannot write to .*\.out\.lorascope-work .*No space left"):
        extract(base, tuned, tmp_path / "out", rank=2, calibration=texts)
    assert not list(tmp_path.rglob("moments-*layer.1*"))
    assert list(tmp_path.rglob("moments-*layer.0*"))
