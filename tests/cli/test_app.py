"""The command line as a user meets it: help, version, and mistakes in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lorascope import __version__

COMMAND = Path(sys.executable).parent / "lorascope"


def run(*arguments):
    environment = {key: value for key, value in os.environ.items() if key not in {"FORCE_COLOR", "COLUMNS"}}
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_names_the_commands(arguments):
    done = run(*arguments)
    assert done.returncode == 0
    assert "demo" in done.stdout
    assert done.stderr == ""


def test_help_of_the_demo_names_its_default():
    done = run("demo", "--help")
    assert done.returncode == 0
    assert "--out" in done.stdout
    assert "lorascope-demo" in done.stdout


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"lorascope {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("dmeo",), "'dmeo'"),
        (("--bad",), "--bad"),
        (("demo", "--bad"), "--bad"),
        (("demo", "--out"), "--out"),
        (("demo", "extra"), "extra"),
    ],
)
def test_a_wrong_command_line_is_one_line_on_stderr(arguments, named):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert named in done.stderr
    assert done.stderr.endswith(" See 'lorascope --help'.\n")


@pytest.mark.parametrize("under", ["", "below"])
def test_an_output_folder_that_is_a_file(tmp_path, under):
    (tmp_path / "taken").write_text("mine")
    done = run("demo", "--out", tmp_path / "taken" / under)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "--out must be a folder" in done.stderr
    assert str(tmp_path / "taken") in done.stderr
    assert "name another path" in done.stderr
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which not even root may write")
def test_an_output_folder_that_cannot_be_made():
    done = run("demo", "--out", "/proc/lorascope")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lorascope: --out must be a folder that can be written to, got /proc/lorascope (")
    assert done.stderr.count("\n") == 1


def test_a_mistake_or_a_question_loads_no_torch():
    code = "import sys; sys.argv[1:] = {}\ntry: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    for arguments in (["--help"], ["demo", "--help"], ["demo", "--out", sys.executable]):
        source = f"from lorascope.cli import main\n{code.format(arguments)}"
        subprocess.run([sys.executable, "-c", source], check=True, capture_output=True)
