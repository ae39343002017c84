"""Which engine, and why."""

import pytest
import torch

from lorascope import tune
from lorascope.errors import SpecError
from lorascope.models import FNN, TransformerNetwork
from lorascope.tune.compiled import build, choose, load

needs_compiler = pytest.mark.skipif(load().library is None, reason=load().why)
SMALL = FNN(4, 2, dtype=torch.float32)


@needs_compiler
def test_what_is_asked_for_and_what_can_be(monkeypatch):
    monkeypatch.delenv("LORASCOPE_ENGINE", raising=False)
    assert tune.engine_for(SMALL) == tune.engine_for(SMALL, "compiled")
    assert tune.engine_for(SMALL).name == "compiled"
    assert tune.engine_for(SMALL, "torch").name == "torch"
    monkeypatch.setenv("LORASCOPE_ENGINE", "torch")
    assert tune.engine_for(SMALL).name == "torch"
    assert tune.engine_for(SMALL, "compiled").name == "compiled"


UNFIT = {
    "float64": (FNN(4, 2), "float32, the model in float64"),
    "transformer": (TransformerNetwork(4, 2, 1, dtype=torch.float32), "FNNs, the model is a TransformerNetwork"),
    "wide": (FNN(choose.WIDEST + 1, 1, dtype=torch.float32), f"the model has {choose.WIDEST + 1}"),
    "elsewhere": (FNN(4, 1, dtype=torch.float32).to("meta"), "the model is on meta"),
}


@pytest.mark.parametrize(("model", "words"), UNFIT.values(), ids=UNFIT)
def test_models_it_is_not_for(model, words):
    found = tune.engine_for(model)
    assert found.name == "torch"
    assert words in found.why
    with pytest.raises(SpecError, match=f"cannot train this model here.*{words}.*take"):
        tune.engine_for(model, "compiled")


def test_machines_it_is_not_for(monkeypatch):
    monkeypatch.setattr(choose, "load", lambda: build.Built(None, "no C++ compiler"))
    monkeypatch.delenv("LORASCOPE_ENGINE", raising=False)
    assert tune.engine_for(SMALL) == tune.Engine("torch", "no C++ compiler")
    assert tune.lora(SMALL, SMALL, 1, steps=2, batch=4).adapters
    with pytest.raises(SpecError, match=r"no C\+\+ compiler"):
        tune.lora(SMALL, SMALL, 1, steps=2, batch=4, engine="compiled")


def test_names_that_are_none(monkeypatch, unchecked_annotations):
    with pytest.raises(SpecError, match="engine must be one of auto, torch, compiled, got 'fast'"):
        tune.lora(SMALL, SMALL, 1, engine="fast")
    monkeypatch.setenv("LORASCOPE_ENGINE", "fast")
    with pytest.raises(SpecError, match="LORASCOPE_ENGINE must be one of"):
        tune.engine_for(SMALL)
