"""Runs on a real Dask cluster of this machine, and what is left when parts of it die."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import lorascope
from experiments import dask, faulty
from experiments.quick import NAMES, SUITE, table
from lorascope.errors import SpecError
from lorascope.experiments import cluster, load_suite, run
from lorascope.records import done, read
from lorascope.records.schema import KEY

pytest.importorskip("distributed")


@pytest.fixture
def start(tmp_path):
    """Starts a cluster that does not outlive the test."""
    processes = []
    folder = tmp_path / "dask"
    folder.mkdir()

    def _start(**options):
        return dask.cluster(folder, processes, **options)

    yield _start
    for process in processes:
        process.kill()
        process.wait()


def test_the_same_table_with_one_thread_a_cell(tmp_path, whole, start):
    (tmp_path / "lorascope.py").write_text("raise ModuleNotFoundError('not here')")  # nor need it be
    there = start(variables={"OMP_NUM_THREADS": "2"}, scheduler_path=[tmp_path])
    with cluster(there.address, timeout=60) as executor:
        told = []
        ran = run(SUITE, "smoke", tmp_path / "results", executor=executor, progress=lambda *event: told.append(event))
        assert (ran.computed, ran.failures) == (10, ())
        assert table(tmp_path / "results").equals(whole)
        assert [event[0] for event in told] == list(range(11))
        assert executor.at_once == 2
        run(SUITE, "smoke", tmp_path / "one", only=NAMES[0], executor=executor, cell=faulty.counts_threads)
        assert read(tmp_path / "one")["value"].to_list() == [1]
    with cluster(there.address, threads=2) as executor:
        run(SUITE, "smoke", tmp_path / "two", only=NAMES[0], executor=executor, cell=faulty.counts_threads)
        assert read(tmp_path / "two")["value"].to_list() == [2]


@pytest.mark.slow
def test_the_command(tmp_path, start):
    there = start()
    with cluster(there.address, timeout=60):  # the command waits for workers for a few seconds only
        pass
    code = "from lorascope.cli import main; main()"
    line = [sys.executable, "-c", code, "run", "linear", "--results", str(tmp_path / "results")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [*line, "--cluster", there.address], capture_output=True, text=True, check=True, env=environment
    )
    assert ran.stderr == ""
    assert ran.stdout.endswith(f"18 cells computed. Records: {tmp_path / 'results'}\n")
    assert run(load_suite("linear"), "smoke", tmp_path / "here").computed == 18
    assert table(tmp_path / "results").equals(table(tmp_path / "here"))


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tmp_path, whole, start):
    there = start()

    def kill(ended, *_):
        if ended == 2:
            there.kill(there.workers[0])

    with cluster(there.address, timeout=60) as executor:
        executor._client.wait_for_workers(2, 60)
        ran = run(SUITE, "smoke", tmp_path / "results", executor=executor, cell=faulty.takes_its_time, progress=kill)
        assert executor.at_once == 1
    assert (ran.computed, ran.failures) == (10, ())
    assert table(tmp_path / "results").equals(whole)
    assert not read(tmp_path / "results").select(KEY).is_duplicated().any()
    assert len(list((tmp_path / "results").iterdir())) == 10


@pytest.mark.slow
def test_a_cell_that_kills_every_worker_fails_alone(tmp_path, start):
    there = start(workers=6)
    with cluster(there.address, timeout=60) as executor:
        executor._client.wait_for_workers(6, 60)
        (failure,) = run(SUITE, "smoke", tmp_path / "results", executor=executor, cell=faulty.dies).failures
    assert failure.cell == NAMES[3]
    assert "its worker was lost or could not take it (KilledWorker: " in failure.message
    assert done(tmp_path / "results", "quick") == set(NAMES) - {NAMES[3]}
    assert [worker.poll() for worker in there.workers].count(3) == 4


@pytest.mark.slow
def test_a_killed_scheduler_leaves_what_was_done(tmp_path, whole, start):
    there = start()
    code = (
        "import os, signal, sys; from experiments import faulty; from experiments.tiny import QUICK\n"
        "from lorascope.experiments import cluster, parse_suite, run\n"
        "def kill(ended, *_): ended == 2 and os.kill(int(sys.argv[3]), signal.SIGKILL)\n"
        "with cluster(sys.argv[1], timeout=60) as executor:\n"
        "    arguments = {'executor': executor, 'cell': faulty.takes_its_time, 'progress': kill}\n"
        "    ran = run(parse_suite(QUICK, 'quick'), 'smoke', sys.argv[2], **arguments)\n"
        "print(*{failure.message for failure in ran.failures})"
    )
    line = [sys.executable, "-c", code, there.address, tmp_path / "results", str(there.scheduler.pid)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(line, capture_output=True, text=True, check=True, env=environment)
    assert ran.stderr == ""
    assert ran.stdout == (
        "the connection to its worker was lost before it ended; what ended before is recorded, so run again\n"
    )
    before = done(tmp_path / "results", "quick")
    assert 2 <= len(before) < 10
    assert set(read(tmp_path / "results").filter(status="failed")["cell"]) == set(NAMES) - before
    assert run(SUITE, "smoke", tmp_path / "results").computed == 10 - len(before)
    assert table(tmp_path / "results").equals(whole)


def test_a_run_that_is_given_up_leaves_the_cluster_idle(tmp_path, start):
    there = start(workers=1)
    (tmp_path / "results").mkdir()

    def interrupt(ended, *_):
        if ended == 1:
            raise KeyboardInterrupt

    with cluster(there.address, timeout=60) as executor:
        with pytest.raises(KeyboardInterrupt):
            run(SUITE, "smoke", tmp_path / "results", executor=executor, cell=faulty.takes_its_time, progress=interrupt)
        assert executor.submit(int).result(timeout=10) == 0
    assert len(done(tmp_path / "results", "quick")) == 1


def test_workers_with_another_lorascope(tmp_path, start):
    theirs = tmp_path / "theirs"
    shutil.copytree(Path(lorascope.__file__).parent, theirs / "lorascope")
    (theirs / "lorascope" / "_version.py").write_text('__version__ = "0.0.7"\n')
    there = start(workers=1, path=[theirs])
    with pytest.raises(SpecError) as caught, cluster(there.address, timeout=60):
        pass
    assert f"the cluster's workers must have what this process has, lorascope {lorascope.__version__} " in str(
        caught.value
    )
    assert "got 1 of 1 with lorascope 0.0.7 outside a checkout; install the same" in str(caught.value)


def test_workers_without_lorascope(tmp_path, start):
    (tmp_path / "lorascope.py").write_text("raise ModuleNotFoundError('not here')")
    there = start(workers=1, path=[tmp_path])
    with pytest.raises(SpecError, match=r"got 1 of 1 with no lorascope that answers \(.*not here"):
        cluster(there.address, timeout=60).__enter__()


def test_a_cluster_without_workers(start):
    there = start(workers=0)
    with pytest.raises(SpecError, match=f"must have a worker, found none at {there.address} within 1 s; start some"):
        cluster(there.address, timeout=1).__enter__()


@pytest.mark.parametrize("address", ["nonsense", "", "127.0.0.1", "tcp://127.0.0.1:port", "carrier://127.0.0.1:8786"])
def test_an_address_that_is_none(address):
    with pytest.raises(SpecError) as caught:
        cluster(address).__enter__()
    assert f"such as tcp://10.0.0.1:8786, got {address!r} (ValueError: " in str(caught.value)


def test_nobody_there_and_somebody_who_says_nothing():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        for listening in (False, True):
            if listening:
                silent.listen()
            with pytest.raises(SpecError, match=f"must be the address of a Dask scheduler .* got '127.0.0.1:{port}'"):
                cluster(f"127.0.0.1:{port}", timeout=1).__enter__()


def test_threads_that_are_none():
    with pytest.raises(SpecError, match="threads must be an integer of at least 1, got 0"):
        cluster("tcp://127.0.0.1:8786", threads=0).__enter__()


def test_without_the_extra():
    code = (
        "import sys; sys.modules['distributed'] = None\n"
        "from lorascope import errors, experiments\n"
        "try: experiments.cluster('tcp://127.0.0.1:8786').__enter__()\n"
        "except errors.MissingExtraError as error: print(error)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.endswith("run: pip install 'lorascope[cluster]'\n")
