"""Built once, kept, and done without where it cannot be built."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from lorascope.tune.compiled import build, load

needs_compiler = pytest.mark.skipif(load().library is None, reason=load().why)

# answers as a compiler does, and tells how often it was asked to build
PRETENDER = """#!/bin/sh
if [ "$1" = --version ]; then echo "pretender 1.0"; exit 0; fi
echo built >> {log}
for last; do :; done
cp {library} "$last"
"""


FAILING = """#!/bin/sh
[ "$1" = --version ] && exit 0
echo "k.cpp:1: error: no such thing" >&2
exit 3
"""


@pytest.fixture
def pretender(tmp_path, monkeypatch):
    """A quick compiler and an empty cache; returns the compiler's log."""
    real = load().library._name
    log, script = tmp_path / "log", tmp_path / "pretender"
    script.write_text(PRETENDER.format(log=log, library=real))
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return log


def kept(tmp_path):
    return list((tmp_path / "cache" / "lorascope").iterdir())


@needs_compiler
def test_built_once_and_kept(pretender, tmp_path):
    for _ in range(3):
        found = build._load()
        assert found.library is not None
        assert "pretender 1.0" in found.why
    assert pretender.read_text().split() == ["built"]
    assert len(kept(tmp_path)) == 1  # and nothing of the building is left


@needs_compiler
@pytest.mark.parametrize("damage", [b"", b"not a library", None])
def test_a_damaged_file_is_built_again(pretender, tmp_path, damage):
    build._load()
    (path,) = kept(tmp_path)
    before = path.read_bytes()
    # a new file in its place: what is damaged in place would be the one that this process runs
    path.unlink()
    path.write_bytes(before[: len(before) // 2] if damage is None else damage)
    assert build._load().library is not None
    assert [one.read_bytes() for one in kept(tmp_path)] == [before]
    assert pretender.read_text().split() == ["built"] * 2


@needs_compiler
def test_another_compiler_or_other_flags_are_another_file(pretender, tmp_path, monkeypatch):
    build._load()
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-g"))
    build._load()
    (tmp_path / "pretender").write_text((tmp_path / "pretender").read_text().replace("1.0", "2.0"))
    assert "2.0" in build._load().why
    assert len(kept(tmp_path)) == 3


@needs_compiler
def test_several_may_build_at_once(pretender, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = [future.result() for future in [pool.submit(build._load) for _ in range(8)]]
    assert all(one.library is not None for one in found)
    assert len(kept(tmp_path)) == 1


def test_without_a_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    found = build.load.__wrapped__()
    assert found.library is None
    assert "no C++ compiler" in found.why


@needs_compiler
def test_a_compiler_that_fails_or_a_cache_that_cannot_be_written(pretender, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "could not be built" in build.load.__wrapped__().why
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "pretender").write_text(FAILING)
    found = build.load.__wrapped__()
    assert found.library is None
    assert "failed with 3: k.cpp:1: error: no such thing" in found.why
    assert kept(tmp_path) == []


def test_only_cpus_that_can():
    assert build.flags_for("DEFAULT", "x86_64") is None
    assert build.flags_for("AVX2", "riscv64") is None
    assert build.flags_for("DEFAULT", "aarch64") == ()
    assert "-mfma" in build.flags_for("AVX2", "x86_64")


SCRIPT = """
import torch
from lorascope import tune
from lorascope.models import FNN
frozen, target = FNN(4, 2, dtype=torch.float32), FNN(4, 1, dtype=torch.float32)
tune.lora(frozen, target, 1, steps=3, batch=4)
print(tune.engine_for(frozen).name)
"""


@pytest.mark.slow
@needs_compiler
def test_processes_at_once_and_one_without_a_compiler(tmp_path):
    there = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    bare = there | {"PATH": ""}
    bare.pop("CXX", None)
    running = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", SCRIPT], env=env, stdout=-1, stderr=-1, text=True)
        for env in (there, there, bare)
    ]
    told = [process.communicate(timeout=200) for process in running]
    assert told == [("compiled\n", ""), ("compiled\n", ""), ("torch\n", "")]
    assert len(list((tmp_path / "lorascope").iterdir())) == 1
