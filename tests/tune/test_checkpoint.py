"""Runs that are stopped at any moment go on to the very same result."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from lorascope import construct, tune
from lorascope.errors import SpecError
from lorascope.models import FNN
from lorascope.tune import checkpoint
from lorascope.tune.checkpoint import fingerprint
from tune import victim

STEPS = 200


class StoppedError(Exception):
    """As a signal would stop a run."""


def watched(kind, steps, path=None, stop=None, **changes):
    """A run, and all it showed; ``stop``: the step at which it is broken off."""
    seen = []

    def observe(step, losses):
        if step == stop:
            raise StoppedError
        seen.append((step, losses.tolist()))

    return victim.train(kind, steps, path, observe=observe, **changes), seen


def assert_same_bits(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        values = other.model.state_dict()
        assert all(torch.equal(value, values[name]) for name, value in one.model.state_dict().items())
        assert one.certificate == other.certificate


@pytest.mark.parametrize("kind", ["fnn", "transformer"])
def test_a_killed_run_goes_on_to_the_same_bits(kind, tmp_path):
    file = tmp_path / "run.pt"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, victim.__file__, str(file), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    reached = torch.load(file)["step"]
    assert 0 < reached < victim.STEPS
    found, seen = watched(kind, victim.STEPS, file)
    wanted, all_seen = watched(kind, victim.STEPS)
    assert_same_bits(found, wanted)
    assert seen == all_seen
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stop", [33, 99, 198])
@pytest.mark.parametrize("changes", [{}, {"validate_every": 0}, {"samples": None, "objective": "binary"}])
def test_stopped_twice_at_any_step_it_is_the_same(stop, changes, tmp_path):
    file = tmp_path / "run.pt"
    wanted, all_seen = watched("fnn", STEPS, **changes)
    stops = (STEPS, STEPS) if "validate_every" in changes else (stop, STEPS // 3 * 3)  # where there is a look
    for one in stops:
        try:
            found, seen = watched("fnn", STEPS, file, stop=one, **changes)
        except StoppedError:
            assert torch.load(file)["step"] == (STEPS if one == STEPS else one // 32 * 32)
    found, seen = watched("fnn", STEPS, file, **changes)
    assert_same_bits(found, wanted)
    assert seen == all_seen
    assert not file.exists()


def test_the_generator_ends_where_it_would_have(tmp_path):
    frozen, target = victim.networks("fnn")
    ends = []
    for stop in (None, 70, None):
        generator = torch.Generator().manual_seed(5)

        def observe(step, _losses, stop=stop):
            if step == stop:
                raise StoppedError

        path = None if not ends else tmp_path / "run.pt"
        with suppress(StoppedError):
            tune.lora(
                frozen,
                target,
                1,
                steps=100,
                batch=4,
                generator=generator,
                observe=observe,
                checkpoint=path,
                checkpoint_every=0,
            )
        ends.append(generator.get_state())
    assert torch.equal(ends[0], ends[2])
    assert not torch.equal(ends[0], ends[1])


def test_nothing_is_written_before_it_is_time(tmp_path):
    frozen, target = victim.networks("fnn")
    there = []
    file = tmp_path / "run.pt"
    tune.lora(frozen, target, 1, steps=100, batch=4, checkpoint=file, progress=lambda *_: there.append(file.exists()))
    assert there == [False] * 4


def test_seconds_count_those_before(tmp_path):
    file = tmp_path / "run.pt"
    with pytest.raises(StoppedError):
        watched("fnn", STEPS, file, stop=99)
    content = torch.load(file)
    torch.save(content | {"seconds": 1000.0}, file)
    found, _ = watched("fnn", STEPS, file)
    assert all(1000 < one.seconds < 1100 for one in found)


def test_a_write_that_fails_leaves_the_file_of_before(tmp_path, monkeypatch):
    file = tmp_path / "run.pt"
    with pytest.raises(StoppedError):
        watched("fnn", STEPS, file, stop=66)
    before = file.read_bytes()

    def half(content, to):
        to.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint.torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        watched("fnn", STEPS, file)
    assert file.read_bytes() == before
    monkeypatch.undo()
    assert_same_bits(watched("fnn", STEPS, file)[0], watched("fnn", STEPS)[0])


OTHERS = {
    "steps": ("steps", {}, {"steps": STEPS + 1}),
    "validation": ("validate_every", {}, {"validate_every": 2}),
    "objective": ("objective", {}, {"objective": "binary"}),
    "optimizer": ("optimizer(, engine)?", {}, {"optimizer": "adam"}),
    "samples": ("samples", {}, {"samples": torch.ones(50, 4)}),
    "held out": ("held_out", {}, {"held_out": torch.ones(50, 4)}),
    "nobody watches": ("observe", {}, {"observe": None}),
}


@pytest.mark.parametrize(("words", "first", "changes"), OTHERS.values(), ids=OTHERS)
def test_a_checkpoint_of_other_settings_is_refused(words, first, changes, tmp_path):
    file = tmp_path / "run.pt"
    with pytest.raises(StoppedError):
        watched("fnn", STEPS, file, stop=66, **first)
    before = file.read_bytes()
    arguments = {"kind": "fnn", "steps": STEPS, "path": file, "observe": lambda *_: None} | changes
    with pytest.raises(SpecError, match=f"is of another run, of other {words}; go on"):
        victim.train(**arguments)
    assert file.read_bytes() == before


def test_of_other_networks_members_and_draws_too_all_named(tmp_path):
    file = tmp_path / "run.pt"
    frozen, target = victim.networks("fnn")
    call = {"steps": 100, "batch": 4, "checkpoint": file, "checkpoint_every": 0}

    def stop(share, _):
        if share > 0.5:
            raise StoppedError

    with pytest.raises(StoppedError):
        tune.lora(frozen, target, 1, progress=stop, **call)
    with pytest.raises(SpecError, match="other frozen model, target, members, generator;"):
        tune.lora(target, frozen.__class__(4, 1), 2, generator=torch.Generator().manual_seed(1), **call)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", json.dumps({"format": 1}).encode()])
def test_a_file_that_is_none_is_refused_and_left(content, tmp_path):
    file = tmp_path / "run.pt"
    file.write_bytes(content)
    with pytest.raises(SpecError, match=r"file that such a run has written, got .*run\.pt.*remove it"):
        watched("fnn", STEPS, file)
    assert file.read_bytes() == content
    torch.save({"weights": torch.ones(2)}, file)
    with pytest.raises(SpecError, match="it has other content"):
        watched("fnn", STEPS, file)


def test_what_cannot_be_gone_on_with_is_refused_before_any_work(tmp_path, unchecked_annotations):
    frozen, target = victim.networks("fnn")
    with pytest.raises(SpecError, match=r"in a folder that exists.*make .*nowhere first"):
        tune.lora(frozen, target, 1, steps=1, checkpoint=tmp_path / "nowhere" / "run.pt")
    with pytest.raises(SpecError, match=r"draws that can be repeated.*got a sampler"):
        tune.lora(frozen, target, 1, steps=1, checkpoint=tmp_path / "run.pt", sampler=lambda n: torch.ones(n, 4))
    with pytest.raises(SpecError, match=r"checkpoint_every must be.*-1"):
        tune.lora(frozen, target, 1, steps=1, checkpoint=tmp_path / "run.pt", checkpoint_every=-1)


def test_fingerprints_tell_apart_what_differs():
    generator = torch.Generator().manual_seed(0)
    relu, other = FNN(3, 1, generator=generator), FNN(3, 1, generator=generator)
    linear = FNN.from_weights([relu.linears[0].weight], [relu.linears[0].bias], "identity")
    near = construct.stable(relu, other, 1)
    values = [
        1, 1.5, True, "a", None, [1, 2], [12], [[1], 2], {"a": 1}, {"b": 1}, torch.ones(2), torch.ones(1, 2),
        torch.ones(2).double(), relu, other, linear, tune.Member(1, 1e-3), tune.Member(1, 1e-2), tune.Start("random"),
        tune.Start("near", near), tune.Start("near", near, 0.5), tune.Start("near", construct.stable(other, relu, 1)),
    ]  # fmt: skip
    assert len({fingerprint(value) for value in values}) == len(values)
    assert fingerprint(construct.stable(relu, other, 1)) == fingerprint(near)


def test_the_file_is_plain_tensors_and_numbers(tmp_path):
    file = tmp_path / "run.pt"
    with pytest.raises(StoppedError):
        watched("fnn", STEPS, file, stop=66)
    assert torch.load(file, weights_only=True)["format"] == checkpoint.FORMAT
    assert [Path(one).name for one in tmp_path.iterdir()] == ["run.pt"]
