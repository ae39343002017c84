"""Files are whole or absent."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lorascope.cli.files import output_file, output_folder, write
from lorascope.errors import SpecError


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path):
    assert list(output_folder(tmp_path / "a" / "b", "--out").iterdir()) == []


def test_a_folder_that_exists_keeps_what_it_holds(tmp_path):
    (tmp_path / "kept").write_text("mine")
    output_folder(tmp_path, "--out")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_writing_replaces(tmp_path):
    write(tmp_path / "file", b"old")
    write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_write_that_fails_leaves_the_old_file_and_no_part(tmp_path, monkeypatch):
    write(tmp_path / "file", b"old")

    def full(self, content):
        with self.open("wb") as stream:
            stream.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SpecError, match="No space left"):
        write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target", tmp_path / "link"
    target.write_bytes(b"old")
    before = target.stat().st_ino
    link.symlink_to(target)
    assert output_file(link, "--json") == link
    write(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_ino != before  # in one step
    target.unlink()
    write(link, b"again")  # a link to nothing yet
    assert target.read_bytes() == b"again"
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["target"]


def test_a_pipe_is_written_into(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    output_file(pipe, "--json")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write(pipe, b"whole")
    assert os.read(reader, 100) == b"whole"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_device_is_written_into_through_links_too(tmp_path):
    (tmp_path / "link").symlink_to("/dev/null")
    before = Path("/dev/null").stat().st_ino
    for path in (Path("/dev/null"), tmp_path / "link"):
        output_file(path, "--json")
        write(path, b"gone")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert Path("/dev/null").stat().st_ino == before
    assert (tmp_path / "link").is_symlink()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no such device")
def test_a_full_device_says_so():
    output_file(Path("/dev/full"), "--json")
    with pytest.raises(SpecError, match=r"cannot write /dev/full \(No space left"):
        write(Path("/dev/full"), b"more")
    assert Path("/dev/full").is_char_device()


def test_what_is_no_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")  # its name may not be long
        for path, says in (
            (tmp_path, "the folder"),
            (tmp_path / "socket", "a pipe or a character device"),
            (circle, "Too many levels"),
            (tmp_path / ("a" * 300), "too long"),
        ):
            with pytest.raises(SpecError, match=says) as caught:
                output_file(path, "--json")
            assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["circle", "socket"]


def test_the_file_that_the_output_goes_to_is_refused(tmp_path):
    program = (
        "import sys; from pathlib import Path\n"
        "from lorascope.cli.files import output_file; from lorascope.errors import SpecError\n"
        "print('kept', flush=True)\n"
        "for path in ('/dev/stdout', sys.argv[1]):\n"
        "    try: output_file(Path(path), '--json')\n"
        "    except SpecError as error: print(error, flush=True)\n"
    )
    with (tmp_path / "log").open("wb") as log:
        subprocess.run([sys.executable, "-c", program, tmp_path / "log"], stdout=log, check=True)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0] == "kept"
    assert [line.partition(",")[0] for line in lines[1:]] == ["--json must not be the file that the output goes to"] * 2
