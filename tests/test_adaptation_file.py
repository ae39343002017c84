"""Adaptations on disk: what comes back is what went in, and what does not fit is told in one line."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lorascope as ls
from contracts.cases import DTYPES, GRADIENT, METHODS, PAIRS, adapted, fnn, transformer
from lorascope import construct
from lorascope.errors import CheckpointError, ShapeError, SpecError
from lorascope.models import TransformerNetwork
from reference.attack import inputs_of

EVERY = {**METHODS, **GRADIENT}


def same(one, other, frozen, tokens):
    points = inputs_of(ls.Ball(1.5), next(iter(frozen.parameters())).shape[-1], 20, 0, tokens)
    points = points.to(next(iter(frozen.parameters())).dtype)
    assert torch.equal(one.model(points), other.model(points))
    states = one.model.state_dict(), other.model.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert type(one.model) is type(other.model)
    assert (one.certificate, one.method, one.seconds) == (other.certificate, other.method, other.seconds)
    assert list(one.adapters) == list(other.adapters)
    for name, adapter in one.adapters.items():
        assert torch.equal(adapter.A, other.adapters[name].A)
        assert torch.equal(adapter.B, other.adapters[name].B)
        assert adapter.A.dtype == other.adapters[name].A.dtype
    assert list(one.biases) == list(other.biases)
    assert all(torch.equal(value, other.biases[name]) for name, value in one.biases.items())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("rank", "domain"), [(0, "ball"), (2, "box")])
def test_every_kind_of_model_comes_back(name, dtype, rank, domain, tmp_path):
    frozen, _, found = adapted("stable", name, rank, domain, dtype)
    again = ls.load_adaptation(ls.save_adaptation(found, frozen, tmp_path / "new" / "a.safetensors"), frozen)
    same(found, again, frozen, PAIRS[name].tokens)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("name", ["relu", "transformer"])
def test_every_method_comes_back(method, name, tmp_path):
    frozen, target = PAIRS[name].build()
    found = EVERY[method](frozen, target, 2, domain=ls.Ball(1.5))
    again = ls.load_adaptation(ls.save_adaptation(found, frozen, tmp_path / "a"), frozen)
    same(found, again, frozen, PAIRS[name].tokens)
    assert all(key.endswith((".lora_A", ".lora_B", ".bias")) for key in load_file(tmp_path / "a"))


@pytest.mark.parametrize("norm", [None, "pre", "post"])
@pytest.mark.parametrize("stacked", [False, True])
def test_variants_come_back(norm, stacked, tmp_path):
    made = torch.Generator().manual_seed(0)
    settings = {"head_dim": 2, "ffn_dim": 6, "attention_bias": True, "residual": True, "norm": norm}
    frozen, target = (TransformerNetwork(4, 2, 1, **settings, generator=made) for _ in range(2))
    found = (construct.stacked if stacked else construct.stable)(frozen, target, 2)
    same(found, ls.load_adaptation(ls.save_adaptation(found, frozen, tmp_path / "a"), frozen), frozen, 3)


def test_parameters_that_round_otherwise_are_kept_whole(tmp_path):
    frozen, target = fnn(4, 2, 1)
    found = construct.stable(frozen, target, 1)
    with torch.no_grad():
        found.model.layers[0].weight[0, 0] += 1e-15
    same(found, ls.load_adaptation(ls.save_adaptation(found, frozen, tmp_path / "a"), frozen), frozen, None)
    assert "layers.0.weight.merged" in load_file(tmp_path / "a")


def test_another_rounding_is_said(tmp_path):
    frozen, target = fnn(4, 2, 1)
    found = construct.stable(frozen, target, 1)
    path = ls.save_adaptation(found, frozen, tmp_path / "a")
    with safe_open(path, framework="pt") as file:
        told = file.metadata()
    known = json.loads(told["lorascope"])
    save_file(load_file(path), path, {**told, "lorascope": json.dumps({**known, "merged": "0" * 64})})
    again = ls.load_adaptation(path, frozen)
    assert again.certificate.conditions == (
        *found.certificate.conditions,
        "merged anew with another rounding: last digits of the weights are not those that were saved",
    )


@pytest.fixture
def saved(tmp_path):
    frozen, target = fnn(4, 2, 1)
    return frozen, ls.save_adaptation(construct.stable(frozen, target, 2), frozen, tmp_path / "a.safetensors")


def refused(path, frozen, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        ls.load_adaptation(path, frozen)
    assert "\n" not in str(caught.value)


OTHERS = {
    "another width": (lambda: fnn(5, 2, 1)[0], r"needs.*'shapes': \[\[4, 4\], \[4, 4\]\].*got.*\[5, 5\]"),
    "another activation": (lambda: fnn(4, 2, 1, "identity")[0], "needs.*'activation': 'relu'.*got.*'identity'"),
    "another precision": (lambda: fnn(4, 2, 1)[0].to(torch.float32), "needs.*'dtype': 'float64'.*got.*'float32'"),
    "another kind": (lambda: transformer(4, 2, 1)[0], "needs.*'class': 'FNN'.*got.*'TransformerNetwork'"),
    "other weights": (lambda: fnn(4, 2, 1, seed=1)[0], "needs the frozen weights.*fingerprint [0-9a-f]{12}.*got"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_frozen_model_is_refused(other, saved):
    build, message = OTHERS[other]
    refused(saved[1], build(), message)


def test_what_is_no_such_file_is_refused(saved, tmp_path):
    frozen, path = saved
    refused(tmp_path / "none", frozen, "none must be")
    whole = path.read_bytes()
    for size in (0, 5, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(path, frozen, "must be a whole file")
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    refused(path, frozen, "damaged")
    path.write_text("something else")
    refused(path, frozen, "must be a whole file")
    save_file({"x": torch.ones(2)}, path)
    refused(path, frozen, "must be a .lorascope adaptation 1., got the format None")
    refused(tmp_path, frozen, "must be a whole file")


def test_a_file_that_cannot_be_written_leaves_nothing(saved, tmp_path):
    frozen, path = saved
    found = ls.load_adaptation(path, frozen)
    with pytest.raises(SpecError, match="can be written"):
        ls.save_adaptation(found, frozen, path / "below")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SpecError, match="folder"):
        ls.save_adaptation(found, frozen, tmp_path / "folder")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.safetensors", "folder"]


def test_models_that_do_not_belong_together_are_refused(saved, tmp_path):
    frozen, path = saved
    found = ls.load_adaptation(path, frozen)
    with pytest.raises(ShapeError, match="must be the model that was adapted"):
        ls.save_adaptation(found, fnn(5, 2, 1)[0], tmp_path / "b")
    with pytest.raises(ShapeError, match=r"adapted, but with the adapters merged in layers\.0\.weight is off by"):
        ls.save_adaptation(found, fnn(4, 2, 1, seed=1)[0], tmp_path / "b")
    assert not (tmp_path / "b").exists()
