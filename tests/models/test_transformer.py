import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorascope.errors import ShapeError
from lorascope.models import TransformerNetwork
from reference import forward
from reference.cases import seeds

sizes = {"width": st.integers(1, 6), "heads": st.integers(1, 3), "depth": st.integers(1, 3)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def papers_matrices(model):
    blocks = []
    for index in range(model.depth):
        state = {name: value.numpy() for name, value in model.state_dict().items()}
        block = {
            short: list(state[f"blocks.{index}.{name}"])
            for short, name in zip("QKVO", ("query", "key", "value", "out"), strict=True)
        }
        for number, name in ((1, "ffn_in"), (2, "ffn_out")):
            block |= {
                f"W{number}": state[f"blocks.{index}.{name}.weight"],
                f"b{number}": state[f"blocks.{index}.{name}.bias"],
            }
        blocks.append(block)
    return blocks, model.state_dict()["output.weight"].numpy()


@settings(max_examples=60)
@given(seeds, *sizes.values(), st.integers(1, 5))
def test_forward_is_the_papers_formula_with_tokens_as_columns(seed, width, heads, depth, tokens):
    model = TransformerNetwork(width, heads, depth, generator=seeded(seed))
    inputs = torch.randn(2, tokens, width, generator=seeded(seed), dtype=torch.float64)
    output = model(inputs).detach().numpy()
    assert output.shape == (2, tokens, width)
    for row in range(2):
        forward.assert_same(output[row], forward.transformer(inputs[row].numpy().T, *papers_matrices(model)).T, 1e-8)
    alone = model(inputs[0]).detach().numpy()  # without a batch axis
    forward.assert_same(alone, output[0], 1e-12)


@given(seeds, *sizes.values())
def test_tokens_in_another_order_come_out_in_that_order(seed, width, heads, depth):
    model = TransformerNetwork(width, heads, depth, generator=seeded(seed))
    inputs = 0.5 * torch.randn(4, width, generator=seeded(seed), dtype=torch.float64)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(model(inputs[order]), model(inputs)[order], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parameters_have_the_promised_names_shapes_and_types(dtype):
    model = TransformerNetwork(3, 2, 2, dtype=dtype, generator=seeded())
    matrices = ["query", "key", "value", "out"]
    names = []
    for block in (0, 1):
        names += [f"blocks.{block}.{name}" for name in matrices]
        names += [f"blocks.{block}.{name}.{kind}" for name in ("ffn_in", "ffn_out") for kind in ("weight", "bias")]
    assert list(model.state_dict()) == [*names, "output.weight"]
    shapes = {
        name: (2, 3, 3) if name.endswith(tuple(matrices)) else (3,) if "bias" in name else (3, 3) for name in names
    }
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == shapes | {"output.weight": (3, 3)}
    assert all(p.dtype == dtype for p in model.parameters())
    assert (model.depth, model.num_heads, model.embed_dim) == (2, 2, 3)
    assert model(torch.ones(4, 3, dtype=dtype)).dtype == dtype


def test_attention_starts_standard_normal_and_the_rest_uniform():
    model = TransformerNetwork(32, 4, 2, generator=seeded())
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()
        if parameter.ndim == 3:
            assert float(values.std()) == pytest.approx(1, abs=0.05), name
            assert float(values.abs().max()) > 2.5, name
        else:
            assert float(values.abs().max()) <= 32**-0.5, name
            assert float(values.std()) == pytest.approx(32**-0.5 / 3**0.5, rel=0.3), name


def test_one_generator_state_one_network_and_the_global_state_stays():
    before = torch.get_rng_state()
    first, second, other = (TransformerNetwork(3, 2, 2, generator=seeded(seed)) for seed in (7, 7, 8))
    assert torch.equal(torch.get_rng_state(), before)
    for (name, one), two in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, other.state_dict()[name])
    other.load_state_dict(first.state_dict())
    points = torch.randn(3, 3, generator=seeded(), dtype=torch.float64)
    assert torch.equal(other(points), first(points))


@pytest.mark.parametrize("wrong", [(0, 1, 1), (2, 0, 1), (2, 1, 0)])
def test_sizes_below_1_are_refused(wrong):
    with pytest.raises(ShapeError, match=", ".join(map(str, wrong))):
        TransformerNetwork(*wrong)


def test_scores_of_any_size_overflow_nothing():
    model = TransformerNetwork(2, 1, 1, generator=seeded())
    assert np.isfinite(model(1e8 * torch.ones(3, 2, dtype=torch.float64)).detach().numpy()).all()
