"""What is written is what is read, once, whatever the order it was written in."""

import errno
import math
import os
import stat
from contextlib import nullcontext
from io import BytesIO
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorascope.errors import SpecError
from lorascope.records import SCHEMA, SCHEMA_VERSION, cell_name, done, part_name, read, sweep, write_part
from records.samples import names, row, same, tables

OTHER = {"width": 9}


def sorted_rows(rows):
    return sorted(rows, key=lambda one: (one["suite"], one["cell"]))


@settings(max_examples=40)
@given(tables)
def test_round_trip(rows):
    with TemporaryDirectory() as folder:
        path = write_part(folder, rows, "part")
        table = read(folder)
        assert path == Path(folder) / "part.parquet"
    assert table.schema == SCHEMA
    assert same(table.to_dicts(), sorted_rows(rows))


@settings(max_examples=30)
@given(tables, st.randoms(use_true_random=False))
def test_cell_by_cell_in_any_order_is_all_at_once(rows, order):
    cells = sorted({(one["suite"], one["cell"]) for one in rows})
    order.shuffle(cells)
    with TemporaryDirectory() as folder:
        for cell in cells:
            write_part(folder, [one for one in rows if (one["suite"], one["cell"]) == cell])
        assert len(list(Path(folder).iterdir())) == len(cells)
        assert same(read(folder).to_dicts(), sorted_rows(rows))


def test_that_comparison_would_notice():
    assert same([row(value=math.nan)], [row(value=math.nan)])
    assert not same([row(value=0.0)], [row(value=-0.0)])
    assert not same([row(value=0.1)], [row(value=math.nextafter(0.1, 1))])
    assert not same([row()], [row(), row()])


def test_a_cell_run_again_replaces_its_part(tmp_path):
    first = write_part(tmp_path, [row(value=1.0), row(metric="bound", value=2.0)])
    assert write_part(tmp_path, [row(value=3.0)]) == first
    assert same(read(tmp_path).to_dicts(), [row(value=3.0)])


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_part_written_last_has_a_cell_alone(tmp_path, order):
    chunks = [
        [row(value=0.0), row(of=OTHER, value=0.0)],
        [row(value=1.0), row(metric="bound", value=1.0)],
        [row(of=OTHER, value=2.0), row(metric=None, value=None, status="failed", message="why")],
    ]
    for number in order:
        write_part(tmp_path, chunks[number], f"part{number}")
    last = {}
    for number in order:
        for cell in {one["cell"] for one in chunks[number]}:
            last[cell] = [one for one in chunks[number] if one["cell"] == cell]
    assert same(read(tmp_path).to_dicts(), [one for cell in sorted(last) for one in last[cell]])


def test_which_part_is_last_survives_copying(tmp_path):
    old = write_part(tmp_path, [row(value=1.0)], "z")
    new = write_part(tmp_path, [row(value=2.0)], "a")
    os.utime(old, (2e9, 2e9))
    os.utime(new, (1e9, 1e9))
    assert read(tmp_path)["value"].to_list() == [2.0]


def test_parts_of_one_moment_are_ordered_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("time.time_ns", lambda: 7)
    write_part(tmp_path, [row(value=2.0)], "b")
    write_part(tmp_path, [row(value=1.0)], "a")
    assert read(tmp_path)["value"].to_list() == [2.0]


def test_an_empty_folder_is_an_empty_table(tmp_path):
    assert read(tmp_path).equals(pl.DataFrame(schema=SCHEMA))
    assert read(tmp_path).schema == SCHEMA
    assert done(tmp_path, "suite") == set()


def test_a_missing_folder_and_a_file_are_no_results(tmp_path):
    with pytest.raises(SpecError, match=r"read from a folder, found nothing at .*missing; run a suite or name another"):
        read(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match="found a file at"):
        read(tmp_path / "file")


def test_what_is_no_part_is_left_alone(tmp_path):
    path = write_part(tmp_path, [row()])
    for name in (".x.parquet", "._y.parquet", f".{path.name}.0123.part.tmp", "notes.txt", "x.parquet.tmp"):
        (tmp_path / name).write_bytes(path.read_bytes()[:100])
    (tmp_path / "folder.parquet").mkdir()
    assert same(read(tmp_path).to_dicts(), [row()])


def test_a_file_cut_off_anywhere_is_named(tmp_path):
    path = write_part(tmp_path, [row()])
    whole = path.read_bytes()
    for length in range(0, len(whole), 41):
        path.write_bytes(whole[:length])
        with pytest.raises(SpecError, match=f"{path.name} must be a Parquet part file, got something else"):
            read(tmp_path)


def test_another_schema_version_says_which_came_and_which_is_required(tmp_path, monkeypatch):
    write_part(tmp_path, [row()], "ours")
    monkeypatch.setattr("lorascope.records.write.SCHEMA_VERSION", 99)
    write_part(tmp_path, [row(of=OTHER)], "b")
    write_part(tmp_path, [row(of=OTHER)], "a")
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "foreign.parquet")
    with pytest.raises(SpecError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"results must have schema version {SCHEMA_VERSION}, the one this lorascope writes; {tmp_path} has "
        "version 1 in 1 file (e.g. ours.parquet), version 99 in 2 files (e.g. a.parquet), "
        "version none in 1 file (e.g. foreign.parquet); read the others with the lorascope that wrote them "
        "(their column version says which), or move them away and run again"
    )
    with pytest.raises(SpecError, match="version 99 in 2 files"):
        done(tmp_path, "suite")


def test_the_right_version_with_other_columns_is_refused(tmp_path):
    path = write_part(tmp_path, [row()])
    metadata = {k: v for k, v in pl.read_parquet_metadata(path).items() if k.startswith("lorascope")}
    frame = pl.read_parquet(path).drop("spec").with_columns(rank=pl.lit("2"), more=pl.lit(1.0))
    frame.write_parquet(path, metadata=metadata)
    with pytest.raises(SpecError, match="got rank String, more Float64, no spec; remove it and run its cells again"):
        read(tmp_path)


def test_done_is_what_need_not_run_again(tmp_path):
    failed = {"metric": None, "value": None, "status": "failed", "message": "singular"}
    assert done(tmp_path / "not yet", "suite") == set()
    write_part(tmp_path, [row(), row(metric="bound")])
    write_part(tmp_path, [row(of=OTHER), row(of=OTHER, method="paper", **failed)])
    write_part(tmp_path, [row("other", {"width": 10})])
    assert done(tmp_path, "suite") == {cell_name({"width": 8})}
    assert done(str(tmp_path), "none") == set()
    write_part(tmp_path, [row(of=OTHER)])
    assert done(tmp_path, "suite") == {cell_name({"width": 8}), cell_name(OTHER)}


def test_a_part_needs_rows_and_one_suite_or_a_name(tmp_path):
    with pytest.raises(SpecError, match="at least one row, got none; a cell without a result is a failed row"):
        write_part(tmp_path, [])
    with pytest.raises(SpecError, match="must be of one suite, got one, two; give it a name"):
        write_part(tmp_path, [row("one"), row("two")])
    with pytest.raises(SpecError, match=r"a part's name must be 1 to 100 letters.*got '\.\./x'; rename it"):
        write_part(tmp_path, [row()], "../x")
    assert list(tmp_path.iterdir()) == []


@given(st.tuples(names, names), st.tuples(names, names))
def test_part_names_are_apart(left, right):
    assert (part_name(left[0], [left[1]]) == part_name(right[0], [right[1]])) == (left == right)


def test_a_chunk_has_one_name_whatever_the_order():
    assert part_name("s", ["a", "b", "a"]) == part_name("s", ["b", "a"]) != part_name("s", ["a", "c"])
    with pytest.raises(SpecError, match="at least one cell, got none"):
        part_name("s", [])


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.open"])
def test_no_room_is_one_error_and_the_old_part_stays(tmp_path, monkeypatch, step):
    path = write_part(tmp_path, [row(value=1.0)])

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(step, full)
        with pytest.raises(SpecError, match=r"has room, got .* \(No space left on device\); make room there"):
            write_part(tmp_path, [row(value=2.0)])
    assert list(tmp_path.iterdir()) == [path]
    assert read(tmp_path)["value"].to_list() == [1.0]


@pytest.mark.parametrize(("number", "passes"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_a_file_system_that_cannot_sync_folders_will_do(tmp_path, monkeypatch, number, passes):
    sync = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr("os.fsync", files_only)
    with nullcontext() if passes else pytest.raises(SpecError, match="Input/output error"):
        write_part(tmp_path, [row()])
    assert same(read(tmp_path).to_dicts(), [row()])


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_part(tmp_path, [row()])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match="results must go to a folder"):
        write_part(tmp_path / "file", [row()])
    with pytest.raises(SpecError, match="results must go to a folder"):
        write_part(tmp_path / "file" / "below", [row()])


def test_missing_folders_are_made_and_others_may_read_the_part(tmp_path):
    path = write_part(tmp_path / "a" / "b", [row()])
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_any_parquet_reader_reads_a_part(tmp_path):
    content = write_part(tmp_path, [row()]).read_bytes()
    assert same(pl.read_parquet(BytesIO(content)).to_dicts(), [row()])


def test_sweep_removes_old_temporaries_alone(tmp_path):
    path = write_part(tmp_path, [row()])
    old, young, foreign = (tmp_path / name for name in (".a.parquet.1.part.tmp", ".b.parquet.2.part.tmp", ".c.tmp"))
    for file in (old, young, foreign):
        file.touch()
    os.utime(old, (1e9, 1e9))
    os.utime(foreign, (1e9, 1e9))
    assert sweep(tmp_path) == 1
    assert sorted(tmp_path.iterdir()) == sorted([path, young, foreign])
    assert sweep(tmp_path / "missing") == 0
