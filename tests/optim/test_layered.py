"""The hand-written gradient against autograd through one plain network at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorascope.errors import ShapeError, SpecError
from lorascope.optim import LayeredGradient
from reference.objectives import by_torch


def plain_loss(weights, factors, biases, x, y, relu, objective="mse"):
    """One member, as one would write it."""
    for weight, pair, bias in zip(weights, factors, biases, strict=True):
        weight_ = weight if pair is None else weight + pair[1] @ pair[0]
        x = x @ weight_.T + bias
        x = torch.relu(x) if relu else x
    return by_torch(x, y, objective)


@st.composite
def problems(draw):
    """Everything a LayeredGradient takes, for any widths and any way of training each layer."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    depth, members = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    same = draw(st.booleans())
    widths = [draw(st.integers(1, 6))] * (depth + 1) if same else [draw(st.integers(1, 6)) for _ in range(depth + 1)]
    ways = [draw(st.sampled_from(["adapted", "full", "frozen"])) for _ in range(depth)]
    shared = [draw(st.booleans()) for _ in range(depth)]
    ranks = [draw(st.integers(0, 7)) for _ in range(depth)]
    fixed = [draw(st.sampled_from([None, "one", "each"])) for _ in range(depth)]
    if ways.count("frozen") == depth and None not in fixed:
        fixed[-1] = None
    sizes = list(zip(widths[1:], widths[:-1], strict=True))
    rows = draw(st.integers(1, 5))
    return {
        "weights": [randn(*size) if one else randn(members, *size) for size, one in zip(sizes, shared, strict=True)],
        "A": [
            randn(members, r, inp) if way == "adapted" else None
            for way, r, (_, inp) in zip(ways, ranks, sizes, strict=True)
        ],
        "B": [
            randn(members, out, r) if way == "adapted" else None
            for way, r, (out, _) in zip(ways, ranks, sizes, strict=True)
        ],
        "W": [randn(members, *size) if way == "full" else None for way, size in zip(ways, sizes, strict=True)],
        "b": [randn(members, out) if kind is None else None for kind, (out, _) in zip(fixed, sizes, strict=True)],
        "fixed": [
            None if kind is None else randn(out) if kind == "one" else randn(members, out)
            for kind, (out, _) in zip(fixed, sizes, strict=True)
        ],
        "x": randn(*draw(st.sampled_from([(), (members,)])), rows, widths[0]),
        "y": randn(*draw(st.sampled_from([(), (members,)])), rows, widths[-1]),
        "activation": draw(st.sampled_from(["relu", "identity"])),
        "chunk": draw(st.sampled_from([None, 1, 2, 7])),
        "members": members,
        "objective": draw(st.sampled_from(["mse", "classification"] + ["binary"] * (widths[-1] % 2 == 0))),
    }


def parameters_of(problem):
    return [value for name in ("A", "B", "W", "b") for value in problem[name] if value is not None]


def gradient_of(problem, **changes):
    problem = problem | changes
    return LayeredGradient(
        problem["weights"],
        lambda _: (problem["x"], problem["y"]),
        problem["activation"],
        adapted=[layer for layer, a in enumerate(problem["A"]) if a is not None],
        full=[layer for layer, w in enumerate(problem["W"]) if w is not None],
        biases=problem["fixed"],
        chunk=problem["chunk"],
        objective=problem["objective"],
    )


def by_autograd(problem):
    leaves = {name: [None if v is None else v.clone().requires_grad_() for v in problem[name]] for name in "ABWb"}
    losses = []
    for member in range(problem["members"]):
        own = lambda value, shared: value if value.ndim == shared else value[member]  # noqa: B023, E731
        weights = [
            own(frozen, 2) if whole is None else whole[member]
            for frozen, whole in zip(problem["weights"], leaves["W"], strict=True)
        ]
        factors = [None if a is None else (a[member], b[member]) for a, b in zip(leaves["A"], leaves["B"], strict=True)]
        biases = [
            own(fixed, 1) if bias is None else bias[member]
            for fixed, bias in zip(problem["fixed"], leaves["b"], strict=True)
        ]
        x, y = own(problem["x"], 2), own(problem["y"], 2)
        losses.append(plain_loss(weights, factors, biases, x, y, problem["activation"] == "relu", problem["objective"]))
    flat = [leaf for name in "ABWb" for leaf in leaves[name] if leaf is not None]
    found = torch.autograd.grad(sum(losses), flat, allow_unused=True, materialize_grads=True)
    return torch.stack(losses).detach(), found


@given(problems())
@settings(max_examples=150)
def test_losses_and_gradients_are_those_of_autograd(problem):
    parameters = parameters_of(problem)
    before = [value.clone() for value in parameters]
    losses, found = gradient_of(problem)(0, parameters)
    wanted_losses, wanted = by_autograd(problem)
    torch.testing.assert_close(losses, wanted_losses, rtol=1e-11, atol=1e-12)
    for gradient, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-11, atol=1e-12 * float(1 + losses.max()))
    assert all(torch.equal(value, old) for value, old in zip(parameters, before, strict=True))
    torch.testing.assert_close(
        gradient_of(problem).losses(parameters, (problem["x"], problem["y"])), losses, rtol=1e-12, atol=1e-12
    )


def case(generator, members=5, depth=3, width=4, rank=2, rows=6, dtype=torch.float32):
    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    none = [None] * depth
    return {
        "weights": [randn(width, width) for _ in none],
        "A": [randn(members, rank, width) for _ in none],
        "B": [randn(members, width, rank) for _ in none],
        "W": none,
        "b": [randn(members, width) for _ in none],
        "fixed": none,
        "x": randn(rows, width),
        "y": randn(rows, width),
        "activation": "relu",
        "chunk": 2,
        "members": members,
        "objective": "mse",
    }


def test_float32_agrees_to_its_rounding(generator):
    problem = case(generator, width=16, rank=5, rows=64)
    losses, found = gradient_of(problem)(0, parameters_of(problem))
    wanted_losses, wanted = by_autograd(problem)
    torch.testing.assert_close(losses, wanted_losses, rtol=1e-5, atol=1e-6)
    for gradient, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_other_parameters_other_batches_and_losses_left_out(generator):
    problem = case(generator)
    gradient = gradient_of(problem)
    for rows in (6, 3, 6):
        fresh = case(generator, rows=rows) | {"weights": problem["weights"]}
        parameters, batch = parameters_of(fresh), (fresh["x"], fresh["y"])
        wanted_losses, wanted = by_autograd(fresh)
        trained, held_out = gradient.visit(parameters, batch, (problem["x"], problem["y"]))
        torch.testing.assert_close(trained, wanted_losses)
        torch.testing.assert_close(held_out, by_autograd(fresh | {"x": problem["x"], "y": problem["y"]})[0])
        trained, held_out = gradient.visit(parameters, batch, losses=False)
        assert trained.isnan().all()
        assert held_out.isnan().all()
        for found, expected in zip(gradient.gradients(), wanted, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_padding_has_no_gradient(generator):
    problem = case(generator, rank=3)
    for a, b in zip(problem["A"], problem["B"], strict=True):
        a[:, 2], b[:, :, 2] = 0, 0
    _, found = gradient_of(problem)(0, parameters_of(problem))
    assert not any(a[:, 2].any() for a in found[:3])
    assert not any(b[:, :, 2].any() for b in found[3:6])


WRONG = {
    "another activation": (SpecError, "relu.*identity.*'tanh'", {"activation": "tanh"}),
    "another objective": (SpecError, "one of mse, classification, binary, got 'l1'", {"objective": "l1"}),
    "halves of three": (SpecError, "even, got 3", {"weights": [torch.ones(3, 3)], "objective": "binary"}),
    "no layer": (ShapeError, r"weights.*got \[\]", {"weights": []}),
    "layers that do not chain": (ShapeError, r"\(2, 3\), \(3, 4\)", {"weights": [torch.ones(2, 3), torch.ones(3, 4)]}),
    "adapted and full": (SpecError, r"different layers of 0 to 0.*\[0\] and \[0\]", {"adapted": [0], "full": [0]}),
    "no such layer": (SpecError, r"0 to 0.*\[3\]", {"adapted": [3]}),
    "biases that do not fit": (ShapeError, "biases must be one a layer", {"biases": [torch.ones(3)]}),
}


@pytest.mark.parametrize(("error", "words", "changes"), WRONG.values(), ids=WRONG)
def test_wrong_layers_are_quoted(error, words, changes):
    arguments = {"weights": [torch.ones(2, 2)]} | changes
    with pytest.raises(error, match=words):
        LayeredGradient(arguments.pop("weights"), lambda _: (torch.ones(1, 2), torch.ones(1, 2)), **arguments)


CALLS = {
    "too few": ("3 tensors.*got 1", [torch.ones(4, 1, 2)], None),
    "another width": (
        r"B of layer 0 must be \(4, 2, 1\), got \(4, 3, 1\)",
        [torch.ones(4, 1, 2), torch.ones(4, 3, 1), torch.ones(4, 2)],
        None,
    ),
    "another number of members": (
        r"b of layer 0 must be \(4, 2\)",
        [torch.ones(4, 1, 2), torch.ones(4, 2, 1), torch.ones(5, 2)],
        None,
    ),
    "not contiguous": (
        "contiguous",
        [torch.ones(4, 2, 1).mT.expand(4, 3, 2), torch.ones(4, 2, 3), torch.ones(4, 2)],
        None,
    ),
    "inputs of another width": (r"inputs.*\(batch, 2\).*\(1, 3\)", None, (torch.ones(1, 3), torch.ones(1, 2))),
    "targets of another number": ("as many inputs as targets, got 1 and 5", None, (torch.ones(1, 2), torch.ones(5, 2))),
}


@pytest.mark.parametrize(("words", "parameters", "batch"), CALLS.values(), ids=CALLS)
def test_wrong_parameters_and_batches_are_quoted(words, parameters, batch):
    parameters = parameters or [torch.ones(4, 1, 2), torch.ones(4, 2, 1), torch.ones(4, 2)]
    batch = batch or (torch.ones(1, 2), torch.ones(1, 2))
    gradient = LayeredGradient([torch.ones(2, 2)], lambda _: batch)
    with pytest.raises(ShapeError, match=words):
        gradient(0, parameters)
