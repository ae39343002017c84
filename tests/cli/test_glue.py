"""``lorascope glue``, and the suite of tasks, as a user meets them."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from safetensors.torch import load_file

from lorascope.records import read

pytest.importorskip("peft")
from hf.glue import made

COMMAND = Path(sys.executable).parent / "lorascope"
pytestmark = pytest.mark.hf
SUITE = """
name = "glue"
title = "Made tasks"
measure = "glue"

[scales.smoke]
tasks = ["mnli"]
seeds = [0]
ranks = [0, 2]
steps = 30
length = 32
lr = [2e-3, 1e-2]
head_lr = [1e-2]
full_lr = [2e-3]
search_rows = 20
texts = 20
calibration = 40
"""


def environment():
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def arguments(name, *more):
    return [str(part) for part in (COMMAND, name, *more)]


def command(name, *more):
    return subprocess.run(
        arguments(name, *more), capture_output=True, text=True, check=False, env=environment(), timeout=250
    )


@pytest.fixture(scope="module")
def made_task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    made.task(folder / "rows", "mnli", made.three_way)
    made.task(folder / "rows", "stsb", made.similar)
    return ["--model", made.encoder(folder / "encoder"), "--data", folder / "rows"]


def test_a_mistake_is_one_line_and_writes_nothing(made_task, tmp_path):
    path = made_task[3] / "rte"
    made.write(path / "train.tsv", [("a", "b", "0"), ("a", "b", "7")])
    made.write(path / "dev.tsv", [("a", "b", "0")])
    ran = command("glue", "rte", *made_task, "--out", tmp_path / "out")
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert f"{path / 'train.tsv'}, line 3: label '7' (labels of rte are the integers 0 to 1" in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_suite_needs_a_model_and_others_take_none(tmp_path):
    ran = command("run", "glue", "--results", tmp_path)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "the suite glue needs --model DIR" in ran.stderr
    ran = command("run", "linear", "--model", "x", "--results", tmp_path)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "--model belong to the suite glue, got the suite linear" in ran.stderr


def killed_after(line, seen, timeout=200):
    """Start the command, kill it once something is there, and say that it was."""
    process = subprocess.Popen(line, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    ends = time.monotonic() + timeout
    while not seen() and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def checkpointed(steps, least):
    """Whether a checkpoint of so many steps, or of more, is there."""
    return any(int(path.name.split("-")[1]) >= least for path in steps.glob("checkpoint-*"))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["stsb", "mnli"])
def test_a_killed_run_ends_with_the_same_weights_and_scores(made_task, tmp_path, task):
    options = ["--method", "full", "--steps", 400, "--every", 20, "--batch", 16, "--length", 32, "--dropout", 0.1]
    options += ["--lr", 2e-3, "--patience", 20]
    line = [task, *made_task, *options]
    whole = command("glue", *line, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    steps = tmp_path / ".cut.lorascope-work" / "steps"
    # twice: while it trains, and once more after it went on from there
    for least in (60, 200):
        reached = partial(checkpointed, steps, least)
        assert killed_after(arguments("glue", *line, "--out", tmp_path / "cut"), reached)
        assert not (tmp_path / "cut").exists()
    resumed = command("glue", *line, "--out", tmp_path / "cut")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.splitlines()[0] == whole.stdout.splitlines()[0]
    left, right = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert left.keys() == right.keys()
    assert all((left[name] == right[name]).all() for name in left)
    tables = [read(tmp_path / name).select("cell", "method", "rank", "metric", "value") for name in ("whole", "cut")]
    assert tables[0].equals(tables[1])
    assert not steps.exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_two_processes_train_as_one_does_and_speak_once(made_task, tmp_path, method):
    line = ["mnli", *made_task, "--method", method, "--lr", 2e-3, "--steps", 20, "--length", 32, "--batch", 16]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    ran = subprocess.run(
        [*launch, *arguments("glue", *line, "--out", tmp_path / "two")],
        capture_output=True, text=True, check=False, env={**environment(), "ACCELERATE_USE_CPU": "true"}, timeout=250,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("development rows") == 1
    assert "Warning" not in ran.stderr
    whole = command("glue", *line, "--out", tmp_path / "one")
    assert whole.returncode == 0, whole.stderr
    name = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    one, two = (load_file(tmp_path / folder / name) for folder in ("one", "two"))
    assert one.keys() == two.keys()
    assert max(float(abs(one[key] - two[key]).max()) for key in one) < 1e-4


@pytest.mark.slow
def test_a_suite_of_made_tasks(made_task, tmp_path):
    file = tmp_path / "made.toml"
    file.write_text(SUITE)
    ran = command("run", file, *made_task, "--results", tmp_path / "results")
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert "3 cells computed" in ran.stdout
    assert "Rank predicted from the full fine-tune" in ran.stdout
    table = read(tmp_path / "results")
    assert set(table["status"]) == {"ok"}
    rows = table.filter(metric="dev_score").select("method", "rank").unique().rows()
    assert set(rows) == {("gradient", 0), ("gradient", 2), ("full", None), ("extracted", 2), ("calibrated", 2)}
    assert table.filter(metric="recommended_rank")["value"].item() >= 1
    again = command("run", file, *made_task, "--results", tmp_path / "results")
    assert "0 cells computed, 3 recorded before" in again.stdout


@pytest.mark.slow
def test_the_smoke_run_of_the_makefile():
    started = time.monotonic()
    script = Path(__file__).parents[1] / "glue_smoke.py"
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=250)
    assert ran.returncode == 0, ran.stderr
    assert "30 steps" in ran.stdout
    assert time.monotonic() - started < 250
