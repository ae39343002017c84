"""Cell functions that go wrong; in a module of their own, so that a worker can import them."""

import os
import time


def fails(spec, device):
    """For one seed."""
    if spec["seed"] == 1:
        raise ValueError("the network is\nill")
    return [measured(spec)]


def works(spec, device):
    return [measured(spec)]


def dies(spec, device):
    os._exit(3)


def sleeps(spec, device):
    """But for the first cell."""
    if (spec["seed"], spec["method"]) != (0, "gradient"):
        time.sleep(100)
    return [measured(spec)]


def says_nothing(spec, device):
    return []


def says_nonsense(spec, device):
    return [measured(spec) | {"rank": -1}]


def measured(spec):
    return {"method": spec["method"], "rank": 1, "metrics": {"test_mse": 0.5}, "seconds": 0.0, "message": ""}
