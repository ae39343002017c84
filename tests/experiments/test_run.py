"""Runs: what is recorded, what is done again, and that nothing but the suite decides the table."""

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from experiments import faulty, victim
from experiments.quick import NAMES, SUITE, table
from experiments.tiny import QUICK, TINY
from lorascope.errors import SpecError
from lorascope.experiments import parse_suite, run
from lorascope.records import done, read


def test_a_suite_from_end_to_end(tmp_path):
    methods = ["gradient", "last-layers", "paper", "stable"]
    suite = parse_suite(TINY | {"inits": ["pretrained"], "methods": methods}, "tiny")
    ran = run(suite, "smoke", tmp_path)
    assert (ran.computed, ran.failures) == (len(ran.cells), ())
    found = read(tmp_path)
    assert set(found["status"]) == {"ok"}
    assert set(found["cell"]) == set(ran.cells)
    errors = found.filter(metric="test_mse")
    assert sorted(set(errors["method"])) == methods
    assert len(errors) == 2 * (3 * 2 + 1)  # for each seed two ranks, or one number of last layers
    assert run(suite, "smoke", tmp_path).computed == 0


def test_a_cell_that_another_suite_has_is_taken_from_there(tmp_path, whole):
    other = parse_suite(QUICK | {"name": "other", "methods": ["paper"]}, "other")
    assert run(other, "smoke", tmp_path).computed == 5
    assert run(SUITE, "smoke", tmp_path).computed == 5
    assert table(tmp_path).filter(suite="quick").equals(whole)
    # seconds too: the computation was the other's
    taken = read(tmp_path).filter(method="paper")
    assert sorted(taken.filter(suite="quick")["seconds"]) == sorted(taken.filter(suite="other")["seconds"])


def test_failed_rows_of_another_suite_are_not_taken(tmp_path):
    other = parse_suite(QUICK | {"name": "other"}, "other")
    assert len(run(other, "smoke", tmp_path, cell=faulty.fails).failures) == 2
    assert run(SUITE, "smoke", tmp_path).computed == 2


def test_what_is_done_is_not_done_again(tmp_path, whole):
    told = []
    run(SUITE, "smoke", tmp_path, only=NAMES[3])
    ran = run(SUITE, "smoke", tmp_path, progress=lambda *event: told.append(event))
    assert (len(ran.cells), ran.computed) == (10, 9)
    assert [(number, total) for number, total, *_ in told] == [(number, 10) for number in range(1, 11)]
    shares = [share for _, _, share, _, _ in told]
    assert (shares[0], shares[-1], shares) == (0, pytest.approx(1), sorted(shares))
    lefts = [left for *_, left, _ in told]
    assert (lefts[0], lefts[-1]) == (None, 0)
    assert all(left > 0 for left in lefts[1:-1])
    assert told[-1][-1] == "paper, seed 4"
    assert table(tmp_path).equals(whole)


def test_one_cell_alone_and_in_another_order_is_the_same(tmp_path, whole):
    for name in reversed(NAMES):
        ran = run(SUITE, "smoke", tmp_path, only=name)
        assert (ran.cells, ran.computed) == ((name,), 1)
    assert table(tmp_path).equals(whole)
    before = read(tmp_path).filter(cell=NAMES[0])["seconds"]
    assert run(SUITE, "smoke", tmp_path, only=NAMES[0]).computed == 1
    assert not read(tmp_path).filter(cell=NAMES[0])["seconds"].equals(before)
    assert table(tmp_path).equals(whole)


def test_processes_and_any_executor_give_the_same(tmp_path, whole):
    assert run(SUITE, "smoke", tmp_path / "processes", workers=2).computed == 10
    assert table(tmp_path / "processes").equals(whole)
    with ThreadPoolExecutor(2) as pool:
        run(SUITE, "smoke", tmp_path / "threads", executor=pool)
        assert pool.submit(int).result() == 0  # it is the caller's to shut down
    assert table(tmp_path / "threads").equals(whole)


def test_killed_twenty_times_and_resumed(tmp_path, whole):
    moments = random.Random(0)
    finished = []
    with victim.launcher(tmp_path) as ask:
        for kill in range(20):
            parts = len(done(tmp_path, "quick")) + kill % 2  # at least so many, every other time one more than before
            child = ask()
            while len(list(tmp_path.glob("*.parquet"))) < min(parts, len(NAMES)):
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
            assert ask() in (-signal.SIGKILL, 0)
            now = table(tmp_path)
            assert now.equals(whole.filter(whole["cell"].is_in(now["cell"].unique().to_list())))
            finished.append(len(done(tmp_path, "quick")))
        ask()
        assert ask() == 0
    assert finished == sorted(finished)
    assert len({number for number in finished if 0 < number < 10}) >= 2  # kills came in the middle of the run
    assert table(tmp_path).equals(whole)


def test_a_cell_that_fails_is_a_record_and_is_tried_again(tmp_path):
    ran = run(SUITE, "smoke", tmp_path, cell=faulty.fails)
    assert [(failure.method, failure.message) for failure in ran.failures] == [
        ("gradient", "ValueError: the network is\nill"),
        ("paper", "ValueError: the network is\nill"),
    ]
    rows = read(tmp_path)
    assert dict(rows["status"].value_counts().iter_rows()) == {"ok": 8, "failed": 2}
    assert rows.filter(status="failed")["value"].to_list() == [None, None]
    again = run(SUITE, "smoke", tmp_path, cell=faulty.works)
    assert (again.computed, again.failures) == (2, ())
    assert set(read(tmp_path)["status"]) == {"ok"}


def test_a_rank_that_fails_is_a_record_beside_the_others(tmp_path):
    def half(spec, device):
        return [faulty.measured(spec), faulty.measured(spec) | {"rank": 2, "metrics": {}, "message": "singular"}]

    ran = run(SUITE, "smoke", tmp_path, only=NAMES[0], cell=half)
    assert [(failure.rank, failure.message) for failure in ran.failures] == [(2, "singular")]
    assert read(tmp_path)["status"].to_list() == ["ok", "failed"]


@pytest.mark.parametrize(
    ("cell", "part"), [(faulty.says_nothing, "measured nothing"), (faulty.says_nonsense, "must not be negative")]
)
def test_a_cell_without_a_usable_result_fails(tmp_path, cell, part):
    (failure,) = run(SUITE, "smoke", tmp_path, only=NAMES[0], cell=cell).failures
    assert part in failure.message


def test_a_worker_that_dies_twice_over_a_cell_is_a_failure_of_that_cell_alone(tmp_path):
    ran = run(SUITE, "smoke", tmp_path, workers=2, cell=faulty.dies)
    (failure,) = ran.failures
    assert failure.cell == NAMES[3]
    assert "its worker was lost or could not take it (BrokenProcessPool" in failure.message
    assert done(tmp_path, "quick") == set(NAMES) - {NAMES[3]}
    assert read(tmp_path).height == 10


def test_a_worker_killed_once_loses_nothing(tmp_path, whole, monkeypatch):
    monkeypatch.setenv(faulty.MARK, str(tmp_path / "mark"))
    ran = run(SUITE, "smoke", tmp_path / "results", workers=2, cell=faulty.is_killed_once)
    assert (ran.computed, ran.failures) == (10, ())
    assert int((tmp_path / "mark").read_text()) != os.getpid()
    assert table(tmp_path / "results").equals(whole)


def test_an_interruption_does_not_wait_for_cells(tmp_path):
    def interrupt(done, *_):
        if done == 1:
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(SUITE, "smoke", tmp_path, workers=1, cell=faulty.sleeps, progress=interrupt)
    assert time.monotonic() - started < 50
    assert done(tmp_path, "quick") == {NAMES[0]}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"scale": "paper"}, "scale must be one of smoke"),
        ({"only": "0123"}, f"--only must be a cell of the suite quick at the scale smoke, which has 10 ({NAMES[0]}, "),
        ({"only": "0123"}, f"{NAMES[4]}, ...), got '0123'"),
        ({"workers": -1}, "workers must be an integer of at least 0, got -1"),
        ({"device": "abacus"}, "device must be cpu, cuda or cuda:NUMBER, got 'abacus'"),
        ({"device": "meta"}, "device must be cpu, cuda or cuda:NUMBER, got 'meta'"),
        ({"device": "cuda:99"}, "one that this machine has, got 'cuda:99'"),
    ],
)
def test_wrong_input_is_found_before_any_work(tmp_path, arguments, part):
    with pytest.raises(SpecError) as caught:
        run(SUITE, **({"scale": "smoke", "results": tmp_path / "new"} | arguments))
    assert part in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_wrong_cell_of_a_few_is_told_all_of_them(tmp_path):
    few = parse_suite(QUICK | {"methods": ["paper"]}, "quick")
    with pytest.raises(SpecError, match=r"which has 5 \((\w+, ){4}\w+\), got '0123'"):
        run(few, "smoke", tmp_path / "new", only="0123")


def test_workers_and_an_executor_together(tmp_path):
    with ThreadPoolExecutor(1) as pool, pytest.raises(SpecError, match="give workers or an executor"):
        run(SUITE, "smoke", tmp_path, workers=2, executor=pool)
