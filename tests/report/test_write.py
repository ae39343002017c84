"""A report's folder: whole or absent, never in the place of anything else."""

import json
from pathlib import Path

import polars as pl
import pytest

from lorascope.errors import SpecError
from lorascope.records.write import VERSION_KEY
from lorascope.report import write as module
from lorascope.report import write_report

from .samples import curve_cells, write


@pytest.fixture
def few(tmp_path):
    return write(tmp_path / "records", curve_cells("fnn", seeds=(0,)))


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_folder_has_what_its_pages_name(few, tmp_path):
    index = write_report(few, tmp_path / "new" / "out")
    assert index == tmp_path / "new" / "out" / "index.html"
    found = content(index.parent)
    assert {"index.html", "provenance.html", "bounds.html", "suite-fnn.html", "plotly.min.js"} <= set(found)
    assert set(json.loads(found["report.json"])["lorascope report"]) == set(found) - {"report.json"}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_equal_records_make_equal_pages_and_replace_older_ones(few, tmp_path):
    first = content(write_report(few, tmp_path / "out").parent)
    assert content(write_report(few, tmp_path / "out").parent) == first
    other = write(tmp_path / "other", curve_cells("linear", seeds=(0,)))
    second = content(write_report(other, tmp_path / "out").parent)
    assert "suite-linear.html" in second
    assert "suite-fnn.html" not in second
    assert {path.name for path in tmp_path.iterdir()} == {"out", "other", "records"}


def test_an_empty_folder_is_taken(few, tmp_path):
    (tmp_path / "out").mkdir()
    assert write_report(few, tmp_path / "out").is_file()


@pytest.mark.parametrize("older", [False, True])
def test_a_folder_with_anything_else_is_refused_and_kept(few, tmp_path, older):
    out = tmp_path / "out"
    if older:
        write_report(few, out)
    out.mkdir(exist_ok=True)
    (out / "notes.txt").write_text("mine")
    before = content(out)
    with pytest.raises(SpecError, match=r"got .*out, which holds notes\.txt; name another path"):
        write_report(few, out)
    assert content(out) == before


@pytest.mark.parametrize("listed", ["[1]", "{", '{"lorascope report": "notes.txt"}', '{"other": ["notes.txt"]}'])
def test_a_marker_that_is_none_frees_nothing(few, tmp_path, listed):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text(listed)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(SpecError, match=r"holds notes\.txt and 1 more"):
        write_report(few, tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_file_or_the_folder_one_is_in_is_refused(few, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SpecError, match="--out must be a folder, got the file"):
        write_report(few, tmp_path / "file")
    (tmp_path / "in" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "in" / "below")
    for out in (Path(), Path(".."), tmp_path):
        with pytest.raises(SpecError, match="--out must not be the folder you are in"):
            write_report(few, out)


def test_no_records_or_others(few, tmp_path):
    with pytest.raises(SpecError, match=r"found nothing at .*none"):
        write_report(tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpecError, match=r"a report needs records, found none in .*empty; run a suite"):
        write_report(tmp_path / "empty", tmp_path / "out")
    part = next(few.glob("*.parquet"))
    pl.read_parquet(part).write_parquet(part, metadata={VERSION_KEY: "99"})
    with pytest.raises(SpecError, match="must have schema version"):
        write_report(few, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("moment", ["pages", "swap"])
def test_a_failure_leaves_the_older_report_and_nothing_beside_it(few, tmp_path, monkeypatch, moment):
    before = content(write_report(few, tmp_path / "out").parent)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    if moment == "pages":
        monkeypatch.setattr(module.Path, "write_text", full)
    else:
        plain = Path.replace
        fails = lambda self, target: full() if self.name.endswith(".part") else plain(self, target)  # noqa: E731
        monkeypatch.setattr(module.Path, "replace", fails)
    with pytest.raises(SpecError, match="No space left on device"):
        write_report(few, tmp_path / "out")
    assert content(tmp_path / "out") == before
    assert {path.name for path in tmp_path.iterdir()} == {"out", "records"}


def test_progress_rises_to_the_last_page(few, tmp_path):
    told = []
    write_report(few, tmp_path / "out", lambda share, what: told.append((share, what)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert [what for _, what in told] == ["reading records", "fnn", "certificates", "provenance", "overview"]
    assert 0 <= shares[0] < shares[-1] <= 1
