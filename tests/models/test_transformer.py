import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorascope.errors import ShapeError, SpecError
from lorascope.models import TransformerNetwork
from reference import forward
from reference.annotations import jaxtyping_off
from reference.cases import seeds
from reference.variants import FORMS, moved

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


@settings(max_examples=60)
@given(
    seeds,
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 7),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, "pre", "post"]),
    st.data(),
)
def test_forward_of_every_form_is_the_slow_one(seed, width, heads, depth, ffn_dim, bias, residual, norm, data):
    inner = data.draw(st.integers(1, width))
    model = TransformerNetwork(
        width, heads, depth, inner, ffn_dim, attention_bias=bias, residual=residual, norm=norm, generator=seeded(seed)
    )
    moved(model, seeded(seed))
    inputs = torch.randn(2, 3, width, generator=seeded(seed), dtype=torch.float64)
    output = model(inputs).detach().numpy()
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    for row in range(2):
        found = forward.usual_transformer(inputs[row].numpy(), state, depth, residual, norm)
        # where two entries of a token all but agree, a normalisation magnifies their rounding
        forward.assert_same(output[row], found, 1e-6)
    assert (model.head_dim, model.ffn_dim, model.attention_bias) == (inner, ffn_dim, bias)
    assert (model.residual, model.norm_place) == (residual, norm)


def test_the_papers_network_draws_what_it_always_drew():
    model, generator = TransformerNetwork(3, 2, 2, generator=seeded(5)), seeded(5)
    for parameter in model.parameters():
        drawn = torch.empty_like(parameter)
        drawn = drawn.normal_(generator=generator) if drawn.ndim == 3 else drawn
        drawn = drawn if drawn.ndim == 3 else drawn.uniform_(-(3**-0.5), 3**-0.5, generator=generator)
        assert torch.equal(parameter, drawn)
    assert model.is_paper_form
    assert not any(TransformerNetwork(7, 2, 1, **form).is_paper_form for form in FORMS.values())


def test_other_forms_have_the_promised_names_and_shapes():
    made = {"head_dim": 2, "ffn_dim": 5, "attention_bias": True, "residual": True}
    pre, post = (TransformerNetwork(3, 2, 1, norm=place, generator=seeded(), **made) for place in ("pre", "post"))
    shapes = {name.removeprefix("blocks.0."): tuple(p.shape) for name, p in pre.named_parameters()}
    inner = dict.fromkeys(("query", "key", "value"), (2, 2, 3)) | {"out": (2, 3, 2)}
    inner |= dict.fromkeys(("query_bias", "key_bias", "value_bias"), (2, 2)) | {"out_bias": (3,)}
    inner |= {"ffn_in.weight": (5, 3), "ffn_in.bias": (5,), "ffn_out.weight": (3, 5), "ffn_out.bias": (3,)}
    inner |= {f"norm_{layer}.{kind}": (3,) for layer in ("attention", "ffn") for kind in ("weight", "bias")}
    outer = {"norm.weight": (3,), "norm.bias": (3,), "output.weight": (3, 3)}
    assert shapes == inner | outer
    assert "norm.weight" not in dict(post.named_parameters())
    assert torch.equal(pre.norm.weight, torch.ones(3, dtype=torch.float64))
    assert not pre.blocks[0].norm_ffn.bias.any()


@pytest.mark.parametrize("wrong", [{"head_dim": 0}, {"head_dim": 4}, {"ffn_dim": 0}])
def test_head_and_hidden_sizes_out_of_range_are_refused(wrong):
    with pytest.raises(ShapeError, match=f"embed_dim .3.*got.*{next(iter(wrong.values()))}"):
        TransformerNetwork(3, 1, 1, **wrong)


def test_a_place_for_the_norm_that_is_none_is_refused():
    with pytest.raises(SpecError, match="'middle'"), jaxtyping_off():
        TransformerNetwork(3, 1, 1, norm="middle")
