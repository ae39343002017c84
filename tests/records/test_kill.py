"""A run killed at any moment leaves whole parts, and goes on from them."""

import random
import signal
import subprocess
import sys
import time

import pytest

from lorascope.errors import SpecError
from lorascope.records import done, read, sweep, write_part
from records import victim
from records.samples import same


@pytest.fixture
def start():
    """Starts processes that import everything and wait for a line; none outlives the test."""
    processes = []

    def _start(folder, mode):
        command = [sys.executable, victim.__file__, str(folder), mode]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(subprocess.Popen(command, text=True, **pipes))
        return processes[-1]

    yield _start
    for process in processes:
        process.kill()
        process.communicate()


def go(process):
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("\n")
    process.stdin.flush()


def finish(process):
    go(process)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def killed(start, folder, mode, times):
    """Yields the number of each of so many kills, at other moments each time; the next victim starts up meanwhile."""
    moments = random.Random(0)
    following = start(folder, mode)
    for kill in range(times):
        process, following = following, start(folder, mode)
        go(process)
        latest = 0.08 * (1 + kill // 16)  # a busy machine's victims need longer to reach their first write
        time.sleep(moments.uniform(0, latest))
        process.kill()
        process.wait()
        yield kill


def temporaries(folder):
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def assert_whole(folder):
    """Every cell that is there is there once, with all its rows and values."""
    table = read(folder)
    numbers = sorted(set(table["rank"]))
    expected = sorted((victim.rows_of(number) for number in numbers), key=lambda rows: rows[0]["cell"])
    assert same(table.to_dicts(), [row for rows in expected for row in rows])
    assert done(folder, victim.SUITE) >= {rows[0]["cell"] for rows in expected}
    return numbers


def test_killed_at_random_moments_and_resumed(start, tmp_path):
    for kill in killed(start, tmp_path, "forever", 200):
        assert_whole(tmp_path)
        hits = len(temporaries(tmp_path))  # kills that came while a part was being written
        if kill >= 15 and hits >= 2:
            break
    assert hits >= 2
    assert finish(start(tmp_path, "resume")) == (0, "")
    assert assert_whole(tmp_path) == list(range(victim.CELLS))
    assert sweep(tmp_path) == 0  # they are young: somebody may be writing them
    assert sweep(tmp_path, older_than=0) == hits
    assert len(list(tmp_path.iterdir())) == victim.CELLS


def test_that_check_would_notice_a_careless_writer(start, tmp_path):
    with pytest.raises(SpecError, match=r"careless\.parquet must be a Parquet part file"):
        all(read(tmp_path).width for _ in killed(start, tmp_path, "careless", 100))


@pytest.mark.parametrize(
    ("mode", "by", "left", "parts"),
    [
        ("half", signal.SIGXFSZ, [500], 0),
        ("fsync", signal.SIGKILL, None, 0),
        ("rename", signal.SIGKILL, None, 0),
        ("renamed", signal.SIGKILL, [], 1),
    ],
)
def test_killed_at_each_step_of_a_write(start, tmp_path, mode, by, left, parts):
    code, _ = finish(start(tmp_path, mode))
    assert code == -by
    found = [path.stat().st_size for path in temporaries(tmp_path)]
    assert found == left if left is not None else len(found) == 1
    assert len(assert_whole(tmp_path)) == parts
    assert finish(start(tmp_path, "resume")) == (0, "")
    assert assert_whole(tmp_path) == list(range(victim.CELLS))


def test_full_disk_is_an_error_and_leaves_nothing(start, tmp_path):
    code, errors = finish(start(tmp_path, "full"))
    assert code == 1
    assert f"SpecError: results must go to a folder that can be written to and has room, got {tmp_path}" in errors
    assert list(tmp_path.iterdir()) == []


def test_writers_of_different_cells_beside_each_other_and_a_reader(start, tmp_path):
    writers = [start(tmp_path, f"share{share}") for share in range(4)]
    for writer in writers:
        go(writer)
    seen = set()
    while any(writer.poll() is None for writer in writers):
        now = set(assert_whole(tmp_path))
        assert now >= seen
        seen = now
    assert [writer.returncode for writer in writers] == [0] * 4
    assert assert_whole(tmp_path) == list(range(victim.CELLS))
    assert temporaries(tmp_path) == []


def test_writers_of_the_same_cells_beside_each_other_and_a_reader(start, tmp_path):
    write_part(tmp_path, victim.rows_of(0))
    writers = [start(tmp_path, "forever") for _ in range(2)]
    for writer in writers:
        go(writer)
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        assert_whole(tmp_path)
    assert [writer.poll() for writer in writers] == [None, None]
