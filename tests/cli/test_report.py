"""``lorascope report`` as a user meets it."""

import os
import subprocess
import sys

import pytest

from report.samples import all_cells, curve_cells, write

CODE = "import sys; sys.modules['torch'] = None; from lorascope.cli import main; main()"


def run(*arguments, cwd=None):
    environment = {key: value for key, value in os.environ.items() if key not in {"FORCE_COLOR", "COLUMNS"}}
    command = [sys.executable, "-c", CODE, "report", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=cwd)


def test_it_says_where_to_start_and_needs_no_torch(tmp_path):
    write(tmp_path / "lorascope-results", curve_cells("fnn", seeds=(0,)))
    done = run(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Report: lorascope-report/index.html\n"
    assert (tmp_path / "lorascope-report" / "index.html").is_file()


def test_all_suites(tmp_path):
    write(tmp_path / "records", all_cells())
    done = run("--results", tmp_path / "records", "--out", tmp_path / "out")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"Report: {tmp_path / 'out' / 'index.html'}\n", "")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--results", "none"], "found nothing at none; run a suite or name another"),
        (["--results", "empty"], "found none in empty; run a suite or name another folder"),
        (["--results", "records", "--out", "taken"], "--out must be a new folder, an empty one, or a report's"),
        (["--results", "records", "--out", "taken/file"], "--out must be a folder, got the file taken/file"),
        (["--scale", "paper"], "No such option: --scale"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, part):
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    write(tmp_path / "records", curve_cells("fnn", seeds=(0,)))
    done = run(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert part in done.stderr
    assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "taken", "records"}
