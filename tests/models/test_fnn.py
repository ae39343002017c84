from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorascope.errors import ShapeError, SpecError
from lorascope.models import FNN
from reference import forward
from reference.cases import network, seeds


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@given(
    seeds, st.lists(st.integers(1, 12), min_size=2, max_size=5), st.sampled_from(["relu", "identity"]), st.booleans()
)
def test_forward_is_the_papers_formula(seed, widths, activation, bias):
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((out, inp)) for inp, out in pairwise(widths)]
    biases = [rng.standard_normal(len(weight)) if bias else np.zeros(len(weight)) for weight in weights]
    model = network(weights, biases if bias else None, activation)
    points = rng.standard_normal((2, 3, widths[0]))
    found = model(torch.from_numpy(points)).detach().numpy()
    assert found.shape == (2, 3, widths[-1])
    for index in np.ndindex(2, 3):
        forward.assert_same(found[index], forward.fnn(points[index], weights, biases, activation), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
def test_parameters_have_the_promised_names_shapes_and_types(dtype, bias):
    model = FNN(3, 2, bias=bias, dtype=dtype, generator=seeded())
    names = [f"layers.{layer}.{kind}" for layer in (0, 1) for kind in (["weight", "bias"] if bias else ["weight"])]
    assert list(model.state_dict()) == names == [name for name, _ in model.named_parameters()]
    assert all(p.dtype == dtype and p.shape == ((3, 3) if p.ndim == 2 else (3,)) for p in model.parameters())
    assert (model.depth, model.width, model.has_bias) == (2, 3, bias)
    assert model(torch.ones(3, dtype=dtype)).dtype == dtype


@given(seeds, st.integers(1, 12), st.integers(1, 3))
def test_initial_values_are_uniform_to_one_over_the_root_of_the_width(seed, width, depth):
    values = torch.cat([p.detach().flatten() for p in FNN(width, depth, generator=seeded(seed)).parameters()])
    assert values.abs().max() <= width**-0.5
    large = torch.cat([p.detach().flatten() for p in FNN(60, 2, generator=seeded(seed)).parameters()]) * 60**0.5
    assert float(large.mean()) == pytest.approx(0, abs=0.05)
    assert float(large.square().mean()) == pytest.approx(1 / 3, abs=0.03)
    assert float(large.abs().max()) > 0.99


def test_one_generator_state_one_network_and_the_global_state_stays():
    before = torch.get_rng_state()
    first, second, other = (
        FNN(4, 3, generator=seeded(7)),
        FNN(4, 3, generator=seeded(7)),
        FNN(4, 3, generator=seeded(8)),
    )
    assert torch.equal(torch.get_rng_state(), before)
    for (name, one), two in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, other.state_dict()[name])
    torch.manual_seed(5)
    one = FNN(4, 1).linears[0].weight
    torch.manual_seed(5)
    assert torch.equal(one, FNN(4, 1).linears[0].weight)


@given(seeds, st.lists(st.integers(1, 12), min_size=2, max_size=5), st.booleans())
def test_from_weights_copies_and_gives_back(seed, widths, bias):
    generator = seeded(seed)
    weights = [torch.randn(out, inp, generator=generator) for inp, out in pairwise(widths)]
    biases = [torch.randn(out, generator=generator) for out in widths[1:]] if bias else None
    state = torch.get_rng_state()
    model = FNN.from_weights(weights, biases, "identity")
    assert torch.equal(torch.get_rng_state(), state)
    assert (model.depth, model.width, model.has_bias) == (len(weights), max(widths), bias)
    assert model.activation == "identity"
    for index, layer in enumerate(model.linears):
        assert torch.equal(layer.weight, weights[index])
        assert layer.weight.dtype == torch.float32
        assert layer.weight.data_ptr() != weights[index].data_ptr()
        assert layer.bias is None if biases is None else torch.equal(layer.bias, biases[index])
        assert layer.weight.requires_grad


def test_a_state_dict_moves_between_networks():
    source, copy = FNN(3, 2, generator=seeded(0)), FNN(3, 2, generator=seeded(1))
    copy.load_state_dict(source.state_dict())
    points = torch.randn(5, 3, generator=seeded(), dtype=torch.float64)
    assert torch.equal(copy(points), source(points))
    with pytest.raises(RuntimeError, match="bias"):
        FNN(3, 2, bias=False).load_state_dict(source.state_dict())


ones = torch.ones
WRONG = {
    "width": (ShapeError, "width 0, depth 2", lambda: FNN(0, 2)),
    "depth": (ShapeError, "width 2, depth 0", lambda: FNN(2, 0)),
    "activation": (SpecError, "relu.*identity.*'tanh'", lambda: FNN(2, 2, "tanh")),
    "from_weights activation": (SpecError, "'gelu'", lambda: FNN.from_weights([ones(2, 2)], activation="gelu")),
    "no layer": (ShapeError, r"at least one.*\[\]", lambda: FNN.from_weights([])),
    "no matrix": (ShapeError, r"matrix.*\(2,\)", lambda: FNN.from_weights([ones(2)])),
    "an empty matrix": (ShapeError, r"matrix.*\(0, 2\)", lambda: FNN.from_weights([ones(0, 2)])),
    "no chain": (
        ShapeError,
        "layer 1 takes 2 inputs, but layer 0 has 3",
        lambda: FNN.from_weights([ones(3, 2), ones(2, 2)]),
    ),
    "a bias of another length": (
        ShapeError,
        r"\[\(3,\)\], got \[\(2,\)\]",
        lambda: FNN.from_weights([ones(3, 2)], [ones(2)]),
    ),
    "too few biases": (ShapeError, r"got \[\]", lambda: FNN.from_weights([ones(3, 2)], [])),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_quoted(case, unchecked_annotations):
    error, words, call = WRONG[case]
    with pytest.raises(error, match=words):
        call()


@pytest.fixture
def unchecked_annotations():
    """The annotations forbid some of this input, and where they are checked they would speak first."""
    import jaxtyping  # noqa: PLC0415

    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
