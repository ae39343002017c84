"""``lorascope extract`` and ``verify`` as a user meets them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).parent / "lorascope"
pytestmark = pytest.mark.hf


def command(*arguments):
    return subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    tiny = pytest.importorskip("hf.tiny")
    return tiny.pair("qwen2", tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def adapter(pair, tmp_path_factory):
    out = tmp_path_factory.mktemp("adapter") / "out"
    ran = command("extract", *pair, "--out", out, "--rank", 4)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert "vLLM needs --max-lora-rank 8" in ran.stdout
    assert "KL to TUNED" in ran.stdout
    return out


def test_a_dry_run_writes_nothing(pair, tmp_path):
    ran = command("extract", *pair, "--out", tmp_path / "out", "--params", 5000, "--dry-run")
    assert ran.returncode == 0, ran.stderr
    assert "Nothing written" in ran.stdout
    assert "relative error of all together" in ran.stdout
    assert list(tmp_path.iterdir()) == []


def test_what_was_extracted_verifies(pair, adapter, tmp_path):
    ran = command("verify", *pair, adapter, "--json", tmp_path / "v.json")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert "Verified: the adapter is what its card records." in ran.stdout
    found = json.loads((tmp_path / "v.json").read_text())
    assert found["faults"] == []
    assert found["functional"]["kl"] > 0


def test_too_large_a_divergence_fails(pair, adapter):
    ran = command("verify", *pair, adapter, "--max-kl", "1e-12")
    assert ran.returncode == 1
    assert "Falls short: KL to the tuned model is" in ran.stdout


def test_a_damaged_record_fails(pair, adapter, tmp_path):
    tiny = pytest.importorskip("hf.tiny")
    folder = Path(tiny.copy(adapter, tmp_path / "copy"))
    told = json.loads((folder / "lorascope.json").read_text())
    told["matrices"][0]["residual"] *= 1.01
    (folder / "lorascope.json").write_text(json.dumps(told))
    assert command("verify", *pair, folder).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rank", "0"], "--rank must be at least 1, got 0"),
        (["--device", "abacus"], "--device must be one this machine has, got abacus"),
        (["--device", "meta"], "--device must be one this machine has, got meta"),
        (["--dtype", "int4"], "--dtype must be one of"),
    ],
)
def test_wrong_options(pair, arguments, says, tmp_path):
    ran = command("extract", *pair, "--out", tmp_path / "out", *arguments)
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"lorascope: {says}")
    assert ran.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def stray(tmp_path):
    """Two models whose configuration makes transformers warn: its special tokens lie outside the vocabulary."""
    tiny = pytest.importorskip("hf.tiny")
    return tiny.pair("gpt2", tmp_path / "stray", size=0.1, rank=1, bos_token_id=50256, eos_token_id=50256)


def test_nobody_else_speaks(pair, stray, tmp_path):
    for arguments in (
        ("ranks", *stray),
        ("extract", *stray, "--out", tmp_path / "out", "--rank", 1),
        ("verify", *stray, tmp_path / "out"),
    ):
        ran = command(*arguments)
        assert (ran.returncode, ran.stderr) == (0, "")
    ran = command("extract", pair[0], stray[1], "--out", tmp_path / "other")
    assert ran.returncode == 2
    assert ran.stderr.startswith("lorascope: base and tuned model must be of one architecture")
    assert ran.stderr.count("\n") == 1


def test_no_adapter(pair):
    ran = command("verify", *pair, pair[0])
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
