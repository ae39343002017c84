"""Many members take the room of their own parameters, and time in proportion."""

import os
import subprocess
import sys

import pytest
import torch

from lorascope import tune
from lorascope.models import FNN
from lorascope.tune import runs

# hidden values of all members at once would be batch * 16 * 4 B * (depth + 1) = 3 MB a member
SCRIPT = """
import resource, sys, time, torch
from lorascope import tune
from lorascope.models import FNN

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
frozen, target = (FNN(16, depth, generator=generator, dtype=torch.float32) for depth in (2, 1))
for count in (20, 60, 120):
    started = time.process_time()
    tune.ensemble(frozen, target, [tune.Member(2, 1e-3)] * count, 4, 16384, engine=sys.argv[1])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, time.process_time() - started)
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_twice_the_members_take_twice_the_time_and_no_more_room_for_hidden_values(engine):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, engine]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    (_, _), (some, once), (more, twice) = (map(float, line.split()) for line in done.stdout.splitlines())
    each = 3  # MB of hidden values of a member, forward alone
    assert more - some < 0.2 * 60 * each
    assert 1.4 < twice / once < 3.0


def test_chunks_share_their_buffers(monkeypatch):
    made = []
    whole = runs.Workspace

    def counted():
        made.append(whole())
        return made[-1]

    monkeypatch.setattr(runs, "Workspace", counted)
    monkeypatch.setattr(runs, "fitting", lambda *_: 2)
    frozen, target = (FNN(3, depth, dtype=torch.float32) for depth in (2, 1))
    tune.ensemble(frozen, target, [tune.Member(1, 1e-3)] * 7, 3, 8, engine="torch")
    (workspace,) = made
    assert 1 <= len(workspace) <= 2  # chunks of two members, and of one
