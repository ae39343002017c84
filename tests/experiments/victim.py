"""Runs to be killed: a line on the input starts one in a process of its own, the next line waits for its end."""

import os
import sys

from experiments.tiny import QUICK
from lorascope.experiments import parse_suite, run
from lorascope.records import provenance


def main(folder):
    provenance("cpu")  # asks git, once for all runs
    while sys.stdin.readline():
        # importing takes seconds, so all runs share it; polars, which does not survive a fork, has not started here
        child = os.fork()
        if child == 0:
            run(parse_suite(QUICK, "quick"), "smoke", folder)
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        sys.stdin.readline()  # only then: until it is waited for, nobody else gets its number
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
