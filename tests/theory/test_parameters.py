import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorascope.models import FNN, TransformerNetwork
from lorascope.theory.parameters import last_layers_parameters, lora_parameters, transformer_parameters


@given(st.integers(1, 12), st.lists(st.integers(0, 5), min_size=1, max_size=6), st.booleans())
def test_lora_counts_the_entries_of_both_factors(width, ranks, bias):
    layers = FNN(width, len(ranks)).linears
    factors = sum(rank * sum(layer.weight.shape) for rank, layer in zip(ranks, layers, strict=True))
    assert lora_parameters(width, ranks, bias) == factors + bias * sum(layer.bias.numel() for layer in layers)


@given(st.integers(1, 12), st.integers(0, 6), st.booleans())
def test_last_layers_counts_their_parameters(width, layers, bias):
    tuned = FNN(width, 6, bias=bias).linears[6 - layers :]
    assert last_layers_parameters(width, layers, bias) == sum(p.numel() for layer in tuned for p in layer.parameters())


@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.booleans())
def test_transformer_counts_every_adapted_matrix(width, heads, depth, rank, bias):
    network = TransformerNetwork(width, heads, depth)
    attention = sum(p.shape[0] for p in network.parameters() if p.ndim == 3)  # one matrix a head
    biases = sum(p.numel() for p in network.parameters() if p.ndim == 1)
    expected = (attention + 2) * 2 * width * rank + bias * biases
    assert transformer_parameters(width, heads, depth, rank, bias) == expected


@pytest.mark.parametrize("depth", [2, 3, 4, 8])
def test_lora_trains_fewer_parameters_than_all_layers_but_one_from_depth_4(depth):
    width = 24
    lora, tuned = lora_parameters(width, [width // depth] * depth), last_layers_parameters(width, depth - 1)
    assert (lora < tuned, lora == tuned) == (depth >= 4, depth == 3)
