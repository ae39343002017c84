"""One holder at a time, whatever becomes of it."""

import errno
import signal
import subprocess
import sys

import pytest

from lorascope.hf.lock import take

fcntl = pytest.importorskip("fcntl")
pytestmark = pytest.mark.hf
HOLD = "import sys; from pathlib import Path; from lorascope.hf.lock import take; held = take(Path(sys.argv[1]));"


def refused(path):
    with pytest.raises(BlockingIOError):
        take(path)
    return True


def test_a_second_one_waits_for_the_first(tmp_path):
    path = tmp_path / "lock"
    first = take(path)
    assert refused(path)
    assert path.exists()
    first.release()
    first.release()
    assert list(tmp_path.iterdir()) == []
    second = take(path)
    first.release()  # what it gave up is no longer its own
    assert refused(path)
    second.release()


def test_it_ends_with_a_killed_process(tmp_path):
    path = tmp_path / "lock"
    program = HOLD + "print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"1\n"
        assert refused(path)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert path.exists()
    take(path).release()
    assert not path.exists()


def test_a_file_that_goes_while_it_is_taken_is_no_lock(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    real, calls = fcntl.flock, []

    def flock(file, how):
        calls.append(how)
        if len(calls) == 1:
            path.unlink()
        if len(calls) == 2:  # another's, by now
            path.unlink()
            path.touch()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    held = take(path)
    assert len(calls) == 3
    assert refused(path)
    held.release()


def test_where_there_are_no_locks_there_is_none(tmp_path, monkeypatch):
    def unknown(_file, _how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    assert take(tmp_path / "lock") is None
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert take(tmp_path / "lock") is None
    assert list(tmp_path.iterdir()) == []
