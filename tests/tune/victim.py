"""A long run with a checkpoint, to be killed: ``python victim.py FILE KIND``; it says when the file is there."""

import sys
import threading
import time
from pathlib import Path

import torch

from lorascope import tune
from lorascope.models import FNN, TransformerNetwork

STEPS = 600


def networks(kind):
    generator = torch.Generator().manual_seed(0)
    if kind == "transformer":
        return tuple(TransformerNetwork(3, 1, 1, generator=generator, dtype=torch.float32) for _ in range(2))
    return tuple(FNN(4, depth, generator=generator, dtype=torch.float32) for depth in (2, 1))


def train(kind, steps, path=None, every=0.0, observe=None, **changes):
    frozen, target = networks(kind)
    shape = (50, 4) if kind == "fnn" else (50, 2, 3)
    settings = {
        "samples": torch.randn(shape, generator=torch.Generator().manual_seed(3)),
        "optimizer": "adamw",
        "checkpoint": path,
        "checkpoint_every": every,
        "observe": observe,
        "validate_every": 3,
    }
    members = [tune.Member(1, 1e-2), tune.Member(2, 1e-3, 0.1, seed=1), tune.Member(0, 1e-3, tune_bias=False)]
    generator = torch.Generator().manual_seed(1)
    return tune.ensemble(frozen, target, members, steps, 8, generator, **(settings | changes))


def announce(path):
    while not path.exists():
        time.sleep(0.01)
    print("written", flush=True)  # noqa: T201 (the other process waits for it)


if __name__ == "__main__":
    torch.set_num_threads(1)
    file = Path(sys.argv[1])
    threading.Thread(target=announce, args=(file,), daemon=True).start()
    # slow enough that the other process is in time to kill it
    train(sys.argv[2], STEPS, file, observe=lambda *_: time.sleep(0.02))
