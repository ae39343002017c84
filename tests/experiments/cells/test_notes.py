"""Notes on trained networks: the engine, and outputs that no gradient reaches."""

import pytest
import torch

from experiments.cells import small
from lorascope.experiments import cell, cells, draw_pair
from lorascope.tune import engine_for


def test_rows_of_all_gradient_methods_name_their_engine():
    wanted = small.specs(["gradient", "last-layers", "full", "biases", "stable"], {"ranks": [1], "layers": [1]})
    engine = engine_for(draw_pair(wanted["stable"])[0].float())
    for method, spec in wanted.items():
        (row,) = cell(spec)
        assert row["message"].startswith(f"steps by the {engine.name} engine ({engine.why})") == (method != "stable")


def test_dead_outputs_are_told_with_their_error(monkeypatch):
    (spec,) = small.suite(["gradient"], {"ranks": [1, 4], "steps": 200})
    frozen, target = draw_pair(spec)
    with torch.no_grad():
        frozen.linears[1].bias[2] = -100.0
        frozen.linears[1].bias[0] = 1.0
    monkeypatch.setattr(cells.dispatch, "draw_pair", lambda _: (frozen, target))
    wanted = small.outputs(target, small.fresh(spec))
    for row in cell(spec):
        note = row["message"].split("; ")[-1]
        assert note.startswith("1 of 4 outputs are 0 on every test input: ")
        theirs, error = (float(word) for word in note.split() if word.startswith("0."))
        assert theirs == pytest.approx((wanted[:, 2] ** 2).mean() / 4, rel=1e-2)
        assert error == pytest.approx(row["metrics"]["test_mse"], rel=1e-2)


def test_no_word_where_all_outputs_are_alive(monkeypatch):
    (spec,) = small.suite(["gradient"], {"ranks": [2]})
    frozen, target = draw_pair(spec)
    with torch.no_grad():
        frozen.linears[1].bias += 1.0
    monkeypatch.setattr(cells.dispatch, "draw_pair", lambda _: (frozen, target))
    assert "outputs" not in cell(spec)[0]["message"]
