"""``lorascope run`` where it cannot do what it should: one line, exit code 2, nothing half-written."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from cli.test_run import COMMAND, as_toml, environment, table
from experiments.tiny import QUICK
from lorascope.experiments import grid, parse_suite, run
from lorascope.records import cell_name, done, read, write_part
from lorascope.records.write import VERSION_KEY

SUITE = parse_suite(QUICK, "quick")
NAMES = [cell_name(spec) for spec in grid(SUITE, "smoke")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with the results of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    run(SUITE, "smoke", folder)
    return folder


@pytest.fixture
def quick(tmp_path):
    file = tmp_path / "quick.toml"
    file.write_text(as_toml(QUICK))
    return file


def command(*arguments, before=()):
    line = [*before, str(COMMAND), "run", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment())


def refused(ran, *parts):
    """It ended as a mistake does, and the line says all of these."""
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1), ran
    for part in parts:
        assert part in ran.stderr


@pytest.fixture
def mounted(tmp_path):
    """Runs a shell script with a small file system of its own at ``$1``, which ends with the script."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    for before in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        trial = [*before, "mount", "-t", "tmpfs", "none", str(folder)]
        if shutil.which("unshare") and subprocess.run(trial, capture_output=True, check=False).returncode == 0:
            break
    else:
        pytest.skip("nobody may mount a file system here")

    def _mounted(options, script, *arguments):
        mount = f'mount -t tmpfs -o {options} none "$1"\n'
        line = [*before, "sh", "-ec", mount + script, "sh", str(folder), str(COMMAND), *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, check=False, env=environment())

    return _mounted


@pytest.mark.slow
def test_a_full_disk_and_then_room(mounted, quick, whole, tmp_path):
    script = """
        mkdir "$1/results"
        "$2" run "$3" --results "$1/results" && exit 90 || code=$?
        test $code = 2 || exit 91
        ls -A "$1/results" > "$4/left"
        mkdir "$4/parts"
        cp "$1/results/"* "$4/parts/"
        mount -o remount,size=4m "$1"
        "$2" run "$3" --results "$1/results" > "$4/resumed"
        cp -r "$1/results" "$4/results"
    """
    ran = mounted("size=32k", script, quick, tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (0, "", 1), ran
    assert "lorascope: results must go to a folder that can be written to and has room, got " in ran.stderr
    assert "(No space left on device); make room there or name another folder" in ran.stderr
    left = (tmp_path / "left").read_text().split()
    kept = done(tmp_path / "parts", "quick")
    assert 0 < len(kept) < len(NAMES)
    assert left == sorted(f"quick@{name}.parquet" for name in kept)  # no temporary file among them
    assert f"{10 - len(kept)} cells computed, {len(kept)} recorded before" in (tmp_path / "resumed").read_text()
    assert table(tmp_path / "results").equals(table(whole))


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs prlimit to limit a command's files")
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_file_that_may_not_grow(quick, tmp_path, workers):
    """What a quota does, on any machine; the message is the system's."""
    ran = command(quick, "--results", tmp_path / "results", "--workers", workers, before=["prlimit", "--fsize=500"])
    refused(ran, f"has room, got {tmp_path / 'results'} (File too large); make room there or name another folder")
    assert list((tmp_path / "results").iterdir()) == []


def test_a_folder_that_may_only_be_read(mounted, quick):
    ran = mounted("ro", '"$2" run "$3" --results "$1"', quick)
    refused(ran, "--results must be a folder that can be written to, got ", "(Read-only file system); name another")


def test_a_folder_that_is_a_file(quick, tmp_path):
    (tmp_path / "results").write_text("mine")
    refused(command(quick, "--results", tmp_path / "results"), "--results must be a folder, got the file ")
    assert (tmp_path / "results").read_text() == "mine"


@pytest.mark.parametrize("more", [pytest.param((), marks=pytest.mark.slow), ("--only", NAMES[0])])
def test_results_of_another_schema_version(quick, whole, tmp_path, more):
    folder = tmp_path / "results"
    folder.mkdir()
    part = write_part(folder, read(whole).filter(cell=NAMES[0]).to_dicts())
    metadata = {**pl.read_parquet_metadata(part), VERSION_KEY: "99"}
    pl.read_parquet(part).write_parquet(part, metadata={k: v for k, v in metadata.items() if k != "ARROW:schema"})
    before = part.read_bytes()
    ran = command(quick, "--results", folder, *more)
    refused(ran, "results must have schema version 1, the one this lorascope writes", "away and run again")
    assert f"{folder} has version 99 in 1 file" in ran.stderr
    assert [path.name for path in folder.iterdir()] == [part.name]
    assert part.read_bytes() == before


def test_a_part_that_is_cut_off(quick, whole, tmp_path):
    part = shutil.copy(next(whole.iterdir()), tmp_path)
    Path(part).write_bytes(Path(part).read_bytes()[:-100])
    refused(command(quick, "--results", tmp_path), f"{part} must be a Parquet part file", "remove it and run its cells")


@pytest.mark.slow
def test_a_cluster_that_is_not_there(quick, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        ran = command(quick, "--results", tmp_path / "results", "--cluster", address)
    refused(ran, "the cluster must be the address of a Dask scheduler that answers, such as tcp://10.0.0.1:8786, got ")
    assert f"'{address}' (" in ran.stderr
    assert "start one with: dask scheduler" in ran.stderr
    assert not (tmp_path / "results").exists()


def test_an_address_that_is_none_and_two_ways_at_once(quick, tmp_path):
    results = "--results", tmp_path / "results"
    refused(command(quick, *results, "--cluster", "nonsense"), "got 'nonsense' (ValueError: missing port number")
    ran = command(quick, *results, "--cluster", "a:1", "--workers", 2)
    refused(ran, "give --workers or --cluster, got --workers 2 and --cluster a:1; leave one out")
    assert not (tmp_path / "results").exists()


def test_without_the_extra(quick, tmp_path):
    code = "import sys; sys.modules['distributed'] = None; from lorascope.cli import main; main()"
    line = [sys.executable, "-c", code, "run", str(quick), "--results", str(tmp_path / "results"), "--cluster", "a:1"]
    refused(
        subprocess.run(line, capture_output=True, text=True, check=False, env=environment()),
        "a cluster needs the package distributed (",
        "run: pip install 'lorascope[cluster]'",
    )
    assert not (tmp_path / "results").exists()
