"""What cells measure, recomputed by the paper's own formulas."""

import math

import numpy as np
import pytest
import torch

from experiments.cells import small
from lorascope import construct, rank_needed
from lorascope.adaptation import Ball
from lorascope.errors import AssumptionError
from lorascope.experiments import cell, cells, draw_pair, pretrained
from lorascope.experiments.networks import generator_for
from lorascope.models import TransformerNetwork
from reference.attack import worst_found


def errors_of(model, target, inputs):
    return small.outputs(model, inputs) - small.outputs(target, inputs)


@pytest.mark.parametrize("content", [{}, small.TRANSFORMER])
def test_the_error_of_a_construction(content):
    spec = small.specs(["stable"], {"ranks": [1, 2], "test_inputs": 40}, **content)["stable"]
    rows = cell(spec)
    frozen, target = draw_pair(spec)
    for row, rank in zip(rows, (1, 2), strict=True):
        model = construct.stable(frozen, target, rank, seconds=math.inf).model
        error = errors_of(model, target, small.fresh(spec))
        assert row["rank"] == rank
        assert row["metrics"]["test_mse"] == pytest.approx(np.mean(error**2), rel=1e-9, abs=1e-28)


def test_transformers_of_all_methods():
    methods = ["gradient", "last-layers", "full", "biases", "paper", "stable", "refined"]
    found = {
        method: cell(spec)
        for method, spec in small.specs(methods, {"ranks": [1, 2], "layers": [1]}, **small.TRANSFORMER).items()
    }
    width, heads, depth = 4, 2, 2
    for method in ("gradient", "paper", "stable", "refined"):
        below, at = (row["metrics"] for row in found[method])
        for rank, metrics in ((1, below), (2, at)):
            # query, key, value and output matrix of every head, the last feed-forward matrix, the output layer
            assert metrics["parameters"] == 2 * width * rank * (4 * heads * depth + 2)
            assert metrics["bias_parameters"] == 2 * width * depth
        if method != "gradient":
            assert at["test_mse"] < 1e-16 < below["test_mse"]
            assert at["test_mse"] <= at["error_bound"] ** 2
    assert found["refined"][0]["metrics"]["test_mse"] < 0.5 * found["stable"][0]["metrics"]["test_mse"]
    matrices = width**2
    numbers = {method: found[method][0]["metrics"] for method in ("last-layers", "full", "biases")}
    assert numbers["full"]["parameters"] == matrices * (4 * heads * depth + 2 * depth + 1)
    assert numbers["last-layers"]["parameters"] == matrices * (4 * heads + 2 + 1)
    assert numbers["biases"]["parameters"] == 0
    assert [numbers[method]["bias_parameters"] for method in numbers] == [2 * width, 4 * width, 4 * width]


def test_tokens_of_training_are_those_of_the_test(monkeypatch):
    lengths = set()
    forward = TransformerNetwork.forward

    def watched(self, tokens):
        lengths.add(tokens.shape[-2])
        return forward(self, tokens)

    monkeypatch.setattr(TransformerNetwork, "forward", watched)
    wanted = small.specs(["gradient", "stable", "refined"], {"ranks": [1], "steps": 2}, **small.TRANSFORMER)
    for method in ("gradient", "refined"):
        cell(wanted[method])
    assert 3 in lengths
    assert 10 not in lengths


def test_pretraining_transformers_stops_at_its_level(generator):
    frozen, target = (TransformerNetwork(4, 1, 1, generator=generator) for _ in range(2))
    first, last = pretrained(frozen, target, generator, lr=1e-2, steps=1000, level=0.5, tokens=3)
    assert 0.2 * first < last < 0.5 * first


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("content", [{}, small.TRANSFORMER])
def test_exactness(content, dtype):
    smoke = {"dtypes": [dtype], "test_inputs": 40}
    for method, spec in small.specs(["paper", "stable"], smoke, measure="exactness", **content).items():
        (row,) = cell(spec)
        frozen, target = draw_pair(spec)
        assert {parameter.dtype for parameter in (*frozen.parameters(), *target.parameters())} == {
            getattr(torch, dtype)
        }
        assert row["rank"] == rank_needed(frozen, target).uniform == 2
        found = getattr(construct, method)(frozen, target, 2)
        # in float64, for the rounding of an evaluation is no part of this
        wanted = small.outputs(target, small.fresh(spec))
        relative = np.linalg.norm(errors_of(found.model, target, small.fresh(spec))) / np.linalg.norm(wanted)
        eps = torch.finfo(getattr(torch, dtype)).eps
        metrics = row["metrics"]
        assert metrics["relative_error"] == pytest.approx(relative, rel=1, abs=2000 * eps)
        assert metrics["relative_error"] < 1e-3
        assert metrics["largest_update"] == pytest.approx(
            max(np.linalg.norm(delta, 2) for one in found.adapters.values() for delta in matrices(one)), rel=1e-5
        )
        assert metrics["residual"] == found.certificate.residual
        assert metrics["exact"] == found.certificate.exact


def matrices(adapter):
    delta = adapter.delta.double().numpy()
    return delta if delta.ndim == 3 else delta[None]


def test_a_construction_whose_assumption_fails_is_told(monkeypatch):
    frozen, target = draw_pair(small.specs(["paper"], {"ranks": [1]})["paper"])
    with torch.no_grad():
        frozen.linears[0].weight[0] = 0
    monkeypatch.setattr(cells.dispatch, "draw_pair", lambda _: (frozen, target))
    wanted = small.specs(["paper", "stable"], {"dtypes": ["float64"]}, measure="exactness")
    (failed,) = cell(wanted["paper"])
    assert failed["metrics"] == {}
    assert "does not apply" in failed["message"]
    with pytest.raises(AssumptionError):
        construct.paper(frozen, target, failed["rank"])
    assert cell(wanted["stable"])[0]["metrics"]["exact"] in (0.0, 1.0)


@pytest.mark.parametrize("content", [{}, small.TRANSFORMER | {"depths": [{"target": 1, "frozen": 1}]}])
def test_certificates(content):
    smoke = {"ranks": [1], "test_inputs": 40}
    wanted = small.specs(["gradient", "stable"], smoke, measure="certificate", **content)
    for method, spec in wanted.items():
        (row,) = cell(spec)
        metrics = row["metrics"]
        assert 0 < metrics["mean_error"] <= metrics["largest_error"]
        assert metrics["largest_error"] <= metrics["attacked_error"] <= metrics["error_bound"]
        assert ("expected_error_bound" in metrics) == (method == "stable")
    frozen, target = draw_pair(spec)
    model = construct.stable(frozen, target, 1, seconds=math.inf).model
    norms = np.linalg.norm(errors_of(model, target, small.fresh(spec)), axis=-1)
    norms = norms if norms.ndim == 1 else norms.max(axis=-1)
    assert metrics["mean_error"] == pytest.approx(norms.mean(), rel=1e-9)
    assert metrics["largest_error"] == pytest.approx(norms.max(), rel=1e-9)
    # another attack finds about as much
    other = worst_found(model, target, Ball(12.0), 4, tokens=spec.get("tokens"), steps=60)
    assert metrics["attacked_error"] > 0.99 * other


def test_proximity():
    smoke = {"ranks": [0, 1, 2], "levels": [1.0, 0.5]}
    content = {"measure": "proximity", "enough": 1e-9, "inits": ["pretrained"]}
    suite = small.suite(["stable"], smoke, **content)
    far, near = (cell(spec)[-1]["metrics"] for spec in suite)
    assert far["rank_needed"] == near["rank_needed"] == far["rank_enough"] == 2
    frozen, target = draw_pair(suite[0])
    untouched, _ = draw_pair(suite[0] | {"init": "random"})
    assert torch.equal(frozen.linears[0].weight, untouched.linears[0].weight)
    assert far["frozen_mse"] == pytest.approx(np.mean(errors_of(frozen, target, small.fresh(suite[0])) ** 2))
    assert 0.3 * far["frozen_mse"] < near["frozen_mse"] < 0.7 * far["frozen_mse"]
    # rank 0 is the frozen network but for its biases
    assert [row["rank"] for row in cell(suite[0])] == [0, 1, 2, None]
    lenient, strict = (cell(suite[0] | {"enough": enough})[-1]["metrics"]["rank_enough"] for enough in (1e3, 1e-40))
    assert (lenient, strict) == (0, math.inf)


@pytest.mark.parametrize(("method", "names"), [("full", ("weight", "bias")), ("biases", ("bias",))])
def test_what_is_trained_whole(method, names):
    """Against a plain loop of torch's own Adam over the same batches."""
    smoke = {"lr": [1e-2], "steps": 30, "dtype": "float64"}
    spec = small.specs([method], smoke)[method]
    (row,) = cell(spec)
    frozen, target = draw_pair(spec)
    trained = [parameter for name, parameter in frozen.named_parameters() if name.endswith(names)]
    source, optimiser = generator_for("training", **spec), torch.optim.Adam(trained, lr=1e-2)
    torch.randint(2**62, (), generator=source)  # the seed of a start, which this has none of
    held_out, *batches = (torch.randn(32, 4, generator=source, dtype=torch.float64) for _ in range(31))
    states, losses = [], []
    for batch in (*batches, None):
        losses.append((frozen(held_out) - target(held_out)).square().mean().item())
        states.append({name: value.clone() for name, value in frozen.state_dict().items()})
        if batch is not None:
            optimiser.zero_grad()
            (frozen(batch) - target(batch)).square().mean().backward()
            optimiser.step()
    best = int(np.argmin(losses))
    frozen.load_state_dict(states[best])
    assert row["metrics"]["validation_mse"] == pytest.approx(losses[best], rel=1e-6)
    error = errors_of(frozen, target, small.fresh(spec))
    assert row["metrics"]["test_mse"] == pytest.approx(np.mean(error**2), rel=1e-6)
    assert row["metrics"]["parameters"] == sum(one.numel() for one in trained if one.ndim == 2)
    assert row["metrics"]["bias_parameters"] == sum(one.numel() for one in trained if one.ndim == 1)
