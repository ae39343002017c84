import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorascope.errors import ShapeError
from lorascope.models import FNN, Adapter, TransformerNetwork, merge
from reference.cases import seeds


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@given(seeds, st.integers(1, 12), st.integers(1, 12), st.integers(0, 12), st.lists(st.integers(1, 3), max_size=1))
def test_delta_is_the_sum_of_outer_products_head_by_head(seed, out, inp, rank, heads):
    adapter = Adapter(A=draw(*heads, rank, inp, seed=seed), B=draw(*heads, out, rank, seed=seed + 1))
    assert adapter.rank == rank
    assert adapter.delta.shape == (*heads, out, inp)
    for head in range(heads[0]) if heads else [...]:
        slow = torch.zeros(out, inp, dtype=torch.float64)
        for index in range(rank):
            slow += torch.outer(adapter.B[head][:, index], adapter.A[head][index])
        torch.testing.assert_close(adapter.delta[head], slow)


@pytest.mark.parametrize(("a", "b"), [((2, 3), (3, 1)), ((2, 2, 3), (3, 2))])
def test_two_ranks_or_one_heads_axis_are_refused(a, b):
    with pytest.raises((ShapeError, TypeError), match=r"rank"):
        Adapter(A=torch.zeros(a), B=torch.zeros(b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_merge_adds_in_float64_replaces_biases_and_copies_the_rest(dtype):
    model = FNN(3, 2, generator=torch.Generator().manual_seed(0), dtype=dtype)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapter, bias = Adapter(A=draw(1, 3, dtype=dtype), B=draw(3, 1, seed=1, dtype=dtype)), draw(3, seed=2, dtype=dtype)
    merged = merge(model, {"layers.1.weight": adapter}, {"layers.0.bias": bias})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    summed = before["layers.1.weight"].double() + adapter.B.double() @ adapter.A.double()
    assert torch.equal(merged.state_dict()["layers.1.weight"], summed.to(dtype))
    assert torch.equal(merged.state_dict()["layers.0.bias"], bias)
    for name in ("layers.0.weight", "layers.1.bias"):
        assert torch.equal(merged.state_dict()[name], before[name])
    with torch.no_grad():
        merged.linears[0].weight.zero_()
    assert torch.equal(model.linears[0].weight, before["layers.0.weight"])


def test_merge_of_a_heads_axis_and_of_nothing():
    model = TransformerNetwork(3, 2, 1, generator=torch.Generator().manual_seed(0))
    adapter = Adapter(A=draw(2, 1, 3), B=draw(2, 3, 1, seed=1))
    merged = merge(model, {"blocks.0.query": adapter})
    torch.testing.assert_close(merged.layers[0].query[1] - model.layers[0].query[1], adapter.B[1] @ adapter.A[1])
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in merge(model, {}).state_dict().items())


thin = Adapter(A=torch.zeros(1, 3), B=torch.zeros(2, 1))
WRONG = {
    "a name": (
        {"layers.9.weight": Adapter(A=torch.zeros(1, 3), B=torch.zeros(3, 1))},
        {},
        r"layers\.9\.weight \(3, 3\)",
    ),
    "a shape": ({"layers.0.weight": thin}, {}, r"layers\.0\.weight \(2, 3\).*'layers\.0\.weight': \(3, 3\)"),
    "a bias": ({}, {"layers.0.bias": torch.zeros(2)}, r"layers\.0\.bias \(2,\)"),
    "a bias's name": ({}, {"bias": torch.zeros(3)}, r"merge bias \(3,\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_quoted(case):
    adapters, biases, words = WRONG[case]
    with pytest.raises(ShapeError, match=words):
        merge(FNN(3, 1, generator=torch.Generator().manual_seed(0)), adapters, biases)
