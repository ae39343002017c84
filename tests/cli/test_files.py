"""Files are whole or absent."""

from pathlib import Path

import pytest

from lorascope.cli.files import output_folder, write
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
