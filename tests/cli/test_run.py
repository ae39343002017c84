"""``lorascope run`` as a user meets it."""

import io
import json
import os
import pty
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from experiments import victim
from experiments.quick import table
from experiments.tiny import QUICK
from lorascope.cli.tables import print_table
from lorascope.experiments import grid, load_suite, run, suite_names
from lorascope.records import Median, cell_name, done, read, write_part
from lorascope.records.schema import KEY

COMMAND = Path(sys.executable).parent / "lorascope"


def environment():
    return {key: value for key, value in os.environ.items() if key not in {"FORCE_COLOR", "COLUMNS"}}


def command(*arguments):
    line = [COMMAND, "run", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment())


def as_toml(suite):
    """JSON's values are TOML's; its tables are not."""
    tables = {name: suite[name] for name in ("scales",) if name in suite}
    lines = [f"{key} = {_value(value)}" for key, value in suite.items() if key not in tables]
    for name, scale in tables["scales"].items():
        lines += [f"[scales.{name}]", *(f"{key} = {_value(value)}" for key, value in scale.items())]
    return "\n".join(lines)


def _value(value):
    if isinstance(value, list):
        return f"[{', '.join(_value(one) for one in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_value(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


@pytest.fixture
def quick(tmp_path):
    file = tmp_path / "quick.toml"
    file.write_text(as_toml(QUICK))
    return file


def test_help_names_suites_and_options():
    done = command("--help")
    assert done.returncode == 0
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", done.stdout).split())
    assert f"One of {', '.join(suite_names())}; or a TOML file" in text
    for part in (
        "--scale",
        "smoke|medium|paper",
        "--only",
        "--results",
        "lorascope-results",
        "--workers",
        "--cluster",
        "--device",
    ):
        assert part in text


def test_one_cell_and_then_the_others(quick, tmp_path):
    folder = tmp_path / "results"
    cell = cell_name(grid(load_suite(str(quick)), "smoke")[-1])
    done = command(quick, "--results", folder, "--only", cell, "--workers", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert "over 1 seed\n" in done.stdout
    assert done.stdout.endswith(f"1 cell computed. Records: {folder}\n")
    assert set(read(folder)["cell"]) == {cell}
    done = command(quick, "--results", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "A suite of seconds, random frozen network: median test MSE over 5 seeds\n" in done.stdout
    assert re.search(r"rank 2 +\S+ +\S+e-\d\d *\n", done.stdout)  # exact by the paper's construction
    assert done.stdout.endswith(f"9 cells computed, 1 recorded before. Records: {folder}\n")


def test_a_recorded_cell_computed_again_is_compared(quick, tmp_path):
    folder = tmp_path / "results"
    spec = grid(load_suite(str(quick)), "smoke")[0]
    cell = cell_name(spec)
    assert "beside its record" not in command(quick, "--results", folder, "--only", cell).stdout
    done = command(quick, "--results", folder, "--only", cell)
    assert f"Cell {cell} computed again, beside its record: the same to 1e-5\n" in done.stdout
    assert re.search(r"test_mse +2 +0 +0 +yes *\n", done.stdout)
    assert "Differs" not in done.stdout
    rows = read(folder).to_dicts()
    for row in rows:
        row["device"], row["message"] = "abacus", "steps by hand"
        row["value"] *= 1.01 if row["metric"] == "test_mse" and row["rank"] == 2 else 1
    write_part(folder, rows)
    done = command(quick, "--results", folder, "--only", cell)
    assert done.returncode == 0
    assert f"Cell {cell} computed again, beside its record: not the same\n" in done.stdout
    assert re.search(r"test_mse +2 +\S+ +0.0099 +NO *\n", done.stdout)
    assert re.search(r"validation_mse +2 +0 +0 +yes *\n", done.stdout)
    assert "Differs: device abacus, now cpu\n" in done.stdout
    assert re.search(
        r'Differs: messages of \d+ rows, the first "steps by hand", now "steps by the \w+ engine', done.stdout
    )
    assert set(read(folder)["device"]) == {"cpu"}  # the new rows are recorded


def test_suites_are_listed_with_their_titles():
    done = command("--list")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == suite_names()
    for line, name in zip(lines, suite_names(), strict=True):
        suite = load_suite(name)
        assert line.endswith(f" {suite.title} ({', '.join(suite.scales)})")


def test_killed_with_its_workers_and_resumed(quick, tmp_path):
    folder = tmp_path / "results"
    arguments = [COMMAND, "run", quick, "--results", folder, "--workers", "2"]
    process = subprocess.Popen(arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(folder.glob("*.parquet")):
        assert process.poll() is None
        time.sleep(0.01)
    workers = [int(child) for child in children(process.pid)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(workers) >= 2
    until = time.monotonic() + 30
    while any(Path(f"/proc/{worker}/cmdline").exists() and alive(worker) for worker in workers):
        assert time.monotonic() < until, "workers outlive the process that started them"
        time.sleep(0.05)
    for results in (folder, tmp_path / "whole"):
        run(load_suite(str(quick)), "smoke", results)
    assert table(folder).equals(table(tmp_path / "whole"))


MANY = QUICK | {"scales": {"smoke": QUICK["scales"]["smoke"] | {"seeds": list(range(20))}}}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_eight_times_with_two_workers_and_resumed(tmp_path):
    file, folder = tmp_path / "many.toml", tmp_path / "results"
    file.write_text(as_toml(MANY))
    run(load_suite(str(file)), "smoke", tmp_path / "whole")
    whole = table(tmp_path / "whole")
    moments = random.Random(0)
    finished = []
    folder.mkdir()
    with victim.launcher("run", file, "--results", folder, "--workers", "2") as ask:
        for kill in range(8):
            # every fourth at any moment of its start; the others once a part more is there, or is about to be written
            more = kill % 4
            parts = min(len(done(folder, "quick")) + more, whole["cell"].n_unique())
            child = ask()
            while len(list(folder.glob("*.parquet"))) < parts:
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.03 if more else 3))
            os.kill(child, signal.SIGKILL)
            assert ask() in (-signal.SIGKILL, 0)
            now = table(folder)  # raises where a part is not whole
            assert now.equals(whole.filter(whole["cell"].is_in(now["cell"].unique().to_list())))
            assert not now.select(KEY).is_duplicated().any()
            finished.append(len(done(folder, "quick")))
    assert finished == sorted(finished)
    assert len({number for number in finished if 0 < number < 40}) >= 4  # kills came in the middle of the run
    ended = command(file, "--results", folder, "--workers", 2)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert table(folder).equals(whole)


def children(pid):
    if not Path("/proc/self/task").exists():
        pytest.skip("needs /proc to find the workers")
    # a child is listed with the thread that started it
    return [child for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_on_a_terminal_a_bar_tells_the_time_left(quick, tmp_path):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "run", quick, "--results", tmp_path / "results"],
        env=environment() | {"TERM": "xterm", "COLUMNS": "120"},
        stderr=theirs,
        stdout=subprocess.DEVNULL,
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    assert process.wait() == 0
    assert b"quick" in seen
    assert re.search(rb"\d of 10 cells, (gradient|paper), seed \d, \d+ s left", seen)


def test_a_cell_that_fails_is_exit_code_1(quick, tmp_path):
    code = (
        "import sys; from lorascope import construct, errors; from lorascope.cli import main\n"
        "def fails(*_, **__): raise errors.AssumptionError('Lemma 1', 'a [singular] value', 0, 1)\n"
        "construct.paper = fails; main()"
    )
    arguments = ["run", str(quick), "--results", str(tmp_path / "results")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, env=environment()
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(r"Failed: cell \w{16}, paper at rank 1: Lemma 1 does not apply: a \[singular\] value", done.stdout)
    assert "cells computed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["fn"], f"SUITE must be one of {', '.join(suite_names())}, or a file"),
        (["none.toml"], "found no file none.toml"),
        (["fnn", "--scale", "huge"], "'huge' is not one of 'smoke', 'medium', 'paper'"),
        (["fnn", "--workers", "-1"], "'--workers': Input should be greater than or equal to 0"),
        (["fnn", "--results", COMMAND], "--results must be a folder"),
    ],
)
def test_a_mistake_is_one_line_and_loads_no_torch(arguments, part, tmp_path):
    code = "import sys; sys.modules['torch'] = None; from lorascope.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert part in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_about_the_suite(quick, tmp_path):
    done = command(quick, "--results", tmp_path / "results", "--only", "0123")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--only must be a cell of the suite quick" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_suite_with_faults_names_them_all(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(as_toml(QUICK | {"width": 0, "colour": "red"}))
    done = command(file, "--results", tmp_path / "results")
    assert done.returncode == 2
    assert "got 2 faults: width: input should be greater than or equal to 1, got 0; colour is no key" in done.stderr


@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_tables_fit_the_terminal(width):
    points = [Median("random", f"1/{depth}", line, "rank 16", 1.5e-29, 5) for depth in (2, 14) for line in LINES]
    console = Console(width=width, record=True, file=io.StringIO())
    print_table(console, points, "Networks {", "test MSE")
    text = console.export_text()
    if width > 40:  # one column needs as much
        assert "…" not in text
        assert text.count("1.5e-29") == len(points)
    assert max(len(line) for line in text.splitlines()) <= width


LINES = ["gradient", "gradient, biases fixed", "last-layers", "paper", "stable", "refined"]
