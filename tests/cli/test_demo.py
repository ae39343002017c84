"""The demo, run as a user runs it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.image
import pytest

COMMAND = Path(sys.executable).parent / "lorascope"


@pytest.mark.slow
def test_demo(tmp_path):  # one test, for the demo is to run once however many workers there are
    environment = os.environ | {"COLUMNS": "80", "OMP_NUM_THREADS": "2"}
    started = time.monotonic()
    done = subprocess.run([COMMAND, "demo"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    folder = tmp_path / "lorascope-demo"
    assert sorted(path.name for path in folder.iterdir()) == ["demo.json", "rank-curve.png"]
    rows = json.loads((folder / "demo.json").read_text())["rows"]
    check_exact_from_the_rank_needed_on([row for row in rows if row["rank"] >= row["rank_needed"]])
    check_not_exact_below([row for row in rows if row["rank"] < row["rank_needed"]])
    check_bounds(rows)
    check_picture(folder / "rank-curve.png")
    check_text(done.stdout, rows)
    assert seconds < 180


def check_exact_from_the_rank_needed_on(rows):
    assert sorted({(row["depth"], row["rank_needed"]) for row in rows}) == [(4, 32), (8, 16)]
    for row in rows:
        assert row["exact"]
        assert row["accuracy"] == row["target_accuracy"] >= 0.95
        assert row["frozen_accuracy"] <= 0.3
        assert row["agreement"] == 1
        assert row["max_error"] < 1e-9
        assert row["error_bound"] < 1e-6


def check_not_exact_below(rows):
    assert len(rows) >= 8
    for row in rows:
        assert not row["exact"]
        assert row["max_error"] > 1e-3
        assert row["conditions"]


def check_bounds(rows):
    for row in rows:
        assert row["mean_error"] <= row["max_error"] <= row["error_bound"]
        assert row["expected_error_bound"] is None or row["train_mean_error"] <= row["expected_error_bound"]


def check_picture(path):
    image = matplotlib.image.imread(path)
    height, width = image.shape[:2]
    assert 1600 <= width <= 2400
    assert 900 <= height <= 1500
    assert 0.02 < (image[..., :3].min(axis=-1) < 0.5).mean() < 0.3  # some ink, mostly paper


def check_text(text, rows):
    printed = [line.split() for line in text.splitlines()]
    for row in rows:
        start = [str(row["rank"]), f"{row['accuracy']:.1%}", f"{row['agreement']:.1%}"]
        lines = [line for line in printed if line[:3] == start]
        assert any(line[-2] == ("yes" if row["exact"] else "no") for line in lines), start
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "What this shows:" in text
    assert "Picture: lorascope-demo/rank-curve.png" in text
