"""``lorascope figures`` as a user meets it, on a machine without torch."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from matplotlib.image import imread

from figures.rows import every, failed, row, spec
from lorascope.figures import FIGURES
from lorascope.records import write_part
from lorascope.records.write import VERSION_KEY

ROWS = every()
CODE = "import sys; sys.modules['torch'] = None; from lorascope.cli import main; main()"


def environment():
    return {key: value for key, value in os.environ.items() if key not in {"FORCE_COLOR", "COLUMNS"}}


def command(*arguments, **options):
    line = [sys.executable, "-c", CODE, "figures", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment(), **options)


def records(folder, *names):
    for name in names:
        write_part(folder, ROWS[name], name)
    return folder


def test_what_there_is_is_drawn_and_what_is_missing_listed(tmp_path):
    out = tmp_path / "new" / "pictures"
    rows = [*ROWS["bias"], *failed("bias", spec(seed=9, ranks=[1]))]
    write_part(tmp_path / "results", rows, "bias")
    records(tmp_path / "results" / "apart", "linear")  # a suite in a folder of its own
    done = command("--results", tmp_path / "results", "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split(maxsplit=2) == ["drawn", "linear", "smoke scale: 3 seeds, 1,000 steps"]
    assert lines[1].endswith("smoke scale: 4 seeds, 1,000 steps; 1 failed run, told in the caption")
    missing = [name for name in FIGURES if name not in ("linear", "bias")]
    assert [line.split() for line in lines[2:-1]] == [
        ["missing", name, "lorascope", "run", FIGURES[name].suite, "--results", str(tmp_path / "results")]
        for name in missing
    ]
    assert lines[-1] == f"2 of {len(FIGURES)} figures. Pictures and their points: {out}"
    files = [f"{name}.{kind}" for name in ("bias", "linear") for kind in ("csv", "png", "svg")]
    assert sorted(path.name for path in out.iterdir()) == files
    assert imread(out / "bias.png").shape[1] == pytest.approx(8.34 * 200, abs=1)
    assert (out / "linear.csv").read_text().startswith("figure,panel,line,x,y,low,high,seeds,scale\nlinear,")


def test_one_alone_by_the_arguments_that_make_gives(tmp_path):
    recipe = (Path(__file__).parents[2] / "Makefile").read_text().split("\nfigures:")[1].splitlines()[1]
    arguments = recipe.split("lorascope figures ")[1].split()
    records(tmp_path / "results", "linear", "bias")
    done = command(*arguments, "--only", "bias", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    made = tmp_path / "docs" / "figures"
    assert sorted(path.name for path in made.iterdir()) == ["bias.csv", "bias.png", "bias.svg"]


def test_a_suite_without_results_is_exit_code_1_and_the_others_are_drawn(tmp_path):
    write_part(tmp_path / "r", failed("fnn", spec(2, 4, ranks=[1, 2])), "fnn")
    done = command("--results", records(tmp_path / "r", "linear"), "--out", tmp_path / "o")
    assert (done.returncode, done.stderr) == (1, "")
    assert "lacking  fnn" in done.stdout
    assert "all 2 runs of the suite fnn failed; run it again: lorascope run fnn\n" in done.stdout
    assert (tmp_path / "o" / "linear.png").exists()
    assert not (tmp_path / "o" / "fnn.png").exists()


def empty(folder):
    folder.mkdir()


def another_version(folder):
    folder.mkdir()
    pl.DataFrame({"a": [1]}).write_parquet(folder / "s@1.parquet", metadata={VERSION_KEY: "99"})


def unreadable(folder):
    records(folder, "linear")
    (folder / "bias@0.parquet").write_bytes(b"PAR1, or not")


def unreadable_within(folder):
    records(folder, "linear")
    unreadable(folder / "apart")


def of_no_figure(folder):
    write_part(folder, row("mine", spec(), 1, test_mse=1.0), "mine")


@pytest.mark.parametrize(
    ("made", "arguments", "parts"),
    [
        (None, [], ["results are read from a folder, found nothing at", "run a suite or name another"]),
        (empty, [], ["--results must be a folder of records, found none in", "lorascope run linear --results"]),
        (another_version, [], ["must have schema version 1", "has version 99 in 1 file"]),
        (unreadable, [], ["bias@0.parquet must be a Parquet part file", "remove it and run its cells again"]),
        (unreadable_within, [], ["apart", "bias@0.parquet must be a Parquet part file"]),
        (of_no_figure, [], ["must have records of a suite that is to be drawn (linear, fnn,", "got mine; run one:"]),
        (of_no_figure, ["--only", "tfn"], ["(tfn), got mine; run one: lorascope run tfn --results"]),
        (empty, ["--only", "fnm"], ["--only must be a figure, one of linear, fnn,", "got 'fnm'"]),
        (lambda folder: records(folder, "linear"), ["--out", sys.executable], ["--out must be a folder"]),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(made, arguments, parts, tmp_path):
    if made is not None:
        made(tmp_path / "results")
    done = command("--results", tmp_path / "results", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ([] if made is None else ["results"])


def test_killed_it_leaves_whole_files_alone(tmp_path):
    out = tmp_path / "pictures"
    results = records(tmp_path / "results", *FIGURES)
    line = [sys.executable, "-c", CODE, "figures", "--results", results, "--out", out]
    process = subprocess.Popen(line, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 200
    while len(list(out.glob("*.png"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for path in out.iterdir():
        if path.suffix == ".png":
            assert imread(path).shape[1] > 1000
        if path.suffix == ".svg":
            assert path.read_text().endswith("</svg>\n")
        if path.suffix == ".csv":
            assert path.read_text().endswith("\n")
            assert len(path.read_text().splitlines()) > 5


def test_what_fails_while_it_writes_leaves_the_old_files(tmp_path):
    code = (
        "import sys; from pathlib import Path; from lorascope.cli import main\n"
        "def full(self, content): Path.touch(self); raise OSError(28, 'No space left on device')\n"
        "Path.write_bytes = full; main()"
    )
    results, out = records(tmp_path / "results", "linear"), tmp_path / "o"
    out.mkdir()
    (out / "linear.png").write_text("old")
    line = [sys.executable, "-c", code, "figures", "--results", str(results), "--out", str(out)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [("linear.png", "old")]


def test_help_names_options_and_loads_nothing_heavy():
    code = (
        "import sys; sys.argv[1:] = ['figures', '--help']\nfrom lorascope.cli import main\ntry: main()\n"
        "except SystemExit: pass\nassert not {'torch', 'matplotlib', 'polars'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    for part in ("--results", "lorascope-results", "--out", "lorascope-figures", "--only"):
        assert part in done.stdout


def test_that_check_would_notice_torch():
    line = [sys.executable, "-c", CODE.replace("main()", "import lorascope.models")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment())
    assert "import of torch halted" in done.stderr
