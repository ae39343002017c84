"""Runs to be killed: a line on the input starts one in a process of its own, the next line waits for its end."""

import os
import subprocess
import sys
from contextlib import contextmanager

from experiments.tiny import QUICK
from lorascope.cli import main as command
from lorascope.experiments import parse_suite, run
from lorascope.records import provenance


@contextmanager
def launcher(*arguments):
    """Yields what asks for the number of a process that it starts, then for that process's exit code.

    Args:
        arguments: a folder, for a run of ``QUICK`` into it; or those of the command ``lorascope``.
    """
    code = f"import sys; sys.path[:0] = {sys.path!r}; from experiments import victim; victim.main(*sys.argv[1:])"
    line = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(line, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:

        def ask():
            process.stdin.write("\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield ask
        process.stdin.close()


def main(*arguments):
    provenance("cpu")  # asks git, once for all runs
    while sys.stdin.readline():
        # importing takes seconds, so all runs share it; polars, which does not survive a fork, has not started here
        child = os.fork()
        if child == 0:
            _run(arguments)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        sys.stdin.readline()  # only then: until it is waited for, nobody else gets its number
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _run(arguments):
    """Never returns: the input and the output belong to the process that forked."""
    try:
        if len(arguments) == 1:
            run(parse_suite(QUICK, "quick"), "smoke", *arguments)
            os._exit(0)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        sys.argv[1:] = arguments
        command()
    except SystemExit as ended:
        os._exit(ended.code)
    finally:
        os._exit(70)
