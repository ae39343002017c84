"""``lorascope ranks`` as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).parent / "lorascope"
pytestmark = pytest.mark.hf


def command(*arguments):
    return subprocess.run([COMMAND, "ranks", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    tiny = pytest.importorskip("hf.tiny")
    return tiny.pair("vit", tmp_path_factory.mktemp("pair"), size=0.1, rank=3)


def test_tables_json_and_picture(pair, tmp_path):
    ran = command(*pair, "--json", tmp_path / "r.json", "--figure", tmp_path / "deep" / "r.png")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert "Rank 3: by energy" in ran.stdout
    assert "attention.q_proj" in ran.stdout
    assert "value-output" in ran.stdout
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["recommended"]["rank"] == 3
    assert len(found["heads"]) == 2 * 2 * 4
    assert {row["rank"] for row in found["matrices"]} == {3}
    assert found["matrices"][0]["epsilon_ranks"]["0.1"] == 3
    assert (tmp_path / "deep" / "r.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "r.json"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tolerance", "1.5"], "--tolerance must lie between 0 and 1, got 1.5"),
        (["--figure", "map.txt"], "--figure must end in .png, .pdf or .svg, got map.txt"),
        (["--json", "."], "--json must be a file, got the folder"),
    ],
)
def test_wrong_options(pair, arguments, says):
    ran = command(*pair, *arguments)
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"lorascope: {says}")
    assert ran.stderr.count("\n") == 1


def test_no_such_model(pair, tmp_path):
    ran = command(pair[0], tmp_path / "nothing")
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "found no folder" in ran.stderr
