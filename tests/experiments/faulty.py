"""Cell functions that go wrong; in a module of their own, so that a worker can import them."""

import os
import signal
import time
from pathlib import Path

import torch

from lorascope.experiments import cell as paper_cell

MARK = "LORASCOPE_TESTS_MARK"  # the variable that names a file which is there once somebody was killed


def fails(spec, device):
    """For one seed."""
    if spec["seed"] == 1:
        raise ValueError("the network is\nill")
    return [measured(spec)]


def works(spec, device):
    return [measured(spec)]


def dies(spec, device):
    """Over one cell, always."""
    if (spec["seed"], spec["method"]) == (1, "paper"):
        os._exit(3)
    return [measured(spec)]


def is_killed_once(spec, device):
    """Over one cell, at the first attempt."""
    mark = Path(os.environ[MARK])
    if (spec["seed"], spec["method"]) == (1, "paper") and not mark.exists():
        mark.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return paper_cell(spec, device)


def sleeps(spec, device):
    """But for the first cell."""
    if (spec["seed"], spec["method"]) != (0, "gradient"):
        time.sleep(100)
    return [measured(spec)]


def takes_its_time(spec, device):
    time.sleep(0.3)
    return paper_cell(spec, device)


def counts_threads(spec, device):
    return [measured(spec) | {"metrics": {"threads": float(torch.get_num_threads())}}]


def says_nothing(spec, device):
    return []


def says_nonsense(spec, device):
    return [measured(spec) | {"rank": -1}]


def measured(spec):
    return {"method": spec["method"], "rank": 1, "metrics": {"test_mse": 0.5}, "seconds": 0.0, "message": ""}
