"""A Dask cluster on this machine, as its own commands start it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cluster:
    address: str
    scheduler: subprocess.Popen
    workers: list

    def kill(self, process):
        process.send_signal(signal.SIGKILL)
        process.wait()


def cluster(folder, processes, workers=2, variables=None, path=(), scheduler_path=()):
    """Start one.

    Args:
        folder: for what it writes.
        processes: list that each process is added to as it starts; to be ended by the caller.
        workers: of one thread.
        variables: of the workers' environment.
        path, scheduler_path: where the workers and the scheduler look for modules first.
    """
    address = _address(folder, processes, _environment(scheduler_path))
    environment = _environment(path) | (variables or {})
    options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder)]
    started = [_started(folder, processes, ["worker", address, *options], environment) for _ in range(workers)]
    return Cluster(address, processes[0], started)


def _environment(path):
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), *sys.path])}


def _address(folder, processes, environment):
    file = Path(folder) / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    scheduler = _started(folder, processes, ["scheduler", *options], environment)
    until = time.monotonic() + 60
    while time.monotonic() < until and scheduler.poll() is None:
        try:
            return json.loads(file.read_text())["address"]
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.05)
    raise AssertionError(f"no scheduler: {log(folder)}")


def _started(folder, processes, arguments, environment):
    with (Path(folder) / "log").open("a") as output:
        line = [sys.executable, "-m", "dask", *arguments]
        processes.append(subprocess.Popen(line, env=environment, stdout=output, stderr=output, cwd=folder))
    return processes[-1]


def log(folder):
    return (Path(folder) / "log").read_text()
