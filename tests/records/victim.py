"""A run to be killed: ``python victim.py DIR MODE``; it says that it is ready and starts when told to."""

import os
import resource
import signal
import sys
import time
from functools import cache
from pathlib import Path

from lorascope import records
from lorascope.records import Provenance

SUITE = "kill"
CELLS = 40
METRICS = 50


def spec_of(number):
    return {"number": number}


@cache
def rows_of(number):
    """The same in every run, as a cell's rows are."""
    spec = spec_of(number)
    values = {f"metric{index}": records.cell_seed(spec) / (index + 1) for index in range(METRICS)}
    return records.ok_rows(
        SUITE, spec, values, method="m", rank=number, seconds=1.0, origin=Provenance("0", None, "cpu")
    )


def resume(folder, numbers):
    """What a runner does."""
    done = records.done(folder, SUITE)
    for number in numbers:
        if records.cell_name(spec_of(number)) not in done:
            records.write_part(folder, rows_of(number))


def forever(folder):
    """The missing cells, then all of them again and again; on a slow disk, for most kills to come during a write."""
    fsync = os.fsync
    os.fsync = lambda descriptor: (time.sleep(0.005), fsync(descriptor))
    resume(folder, range(CELLS))
    while True:
        for number in range(CELLS):
            records.write_part(folder, rows_of(number))


def careless(folder):
    """What must not be done: the reader's file, piece by piece."""
    whole = records.write_part(folder, rows_of(0)).read_bytes()
    with (Path(folder) / "careless.parquet").open("wb", buffering=0) as file:
        while True:
            file.seek(0)
            file.truncate()
            for start in range(0, len(whole), 64):
                file.write(whole[start : start + 64])
                time.sleep(1e-4)


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder, mode):
    if mode == "half":  # the system kills it after so many bytes of a file
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
    elif mode == "full":  # the system refuses more bytes of a file, as it does on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
    elif mode == "fsync":
        os.fsync = die
    elif mode == "rename":
        Path.replace = die
    elif mode == "renamed":
        rename = Path.replace
        Path.replace = lambda path, to: (rename(path, to), die())
    if mode == "forever":
        forever(folder)
    elif mode == "careless":
        careless(folder)
    elif mode.startswith("share"):
        resume(folder, range(int(mode.removeprefix("share")), CELLS, 4))
    else:
        resume(folder, range(CELLS))


if __name__ == "__main__":
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    main(*sys.argv[1:])
