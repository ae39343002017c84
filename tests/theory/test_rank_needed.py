"""The ranks needed: what adapt can do with them, and cannot with less."""

import numpy as np
import pytest
import torch

import lorascope as ls
from contracts.cases import fnn, transformer
from lorascope.errors import SpecError
from reference.cases import matrices, network
from reference.networks import chain


@pytest.mark.parametrize(("width", "depth", "target_depth"), [(4, 2, 1), (4, 5, 2), (3, 3, 3), (1, 3, 1), (5, 3, 1)])
def test_generic_networks_need_the_width_over_the_smaller_group(width, depth, target_depth):
    frozen, target = fnn(width, depth, target_depth)
    need = ls.rank_needed(frozen, target)
    assert need.uniform == -(-width // (depth // target_depth))
    assert need.paper_uniform >= need.uniform
    assert sum(need.per_layer) == width * target_depth
    assert max(need.per_layer) == need.uniform
    assert tuple(need.per_parameter.values()) == need.per_layer
    assert [gap.rank for gap in need.gaps] == [width] * target_depth
    assert [name for gap in need.gaps for name in gap.group] == list(need.per_parameter)
    assert all(0 < gap.tolerance < 1e-11 for gap in need.gaps)
    assert sum(need.partition, ()) == tuple(range(depth))
    for group in need.partition:
        inside = [need.per_layer[layer] for layer in group]
        assert inside == sorted(inside, reverse=True)
        assert inside[0] - inside[-1] <= 1


@pytest.mark.parametrize("missing", [0, 1, 2, 3])
def test_the_gap_is_the_rank_of_the_difference(missing):
    rng = np.random.default_rng(missing)
    frozen = matrices(rng, 2, 4)
    change = rng.standard_normal((4, missing)) @ rng.standard_normal((missing, 4))
    zero = [np.zeros(4)] * 2
    pair = network(frozen, zero), network([chain(frozen) + change], zero[:1])
    need = ls.rank_needed(*pair)
    assert [gap.rank for gap in need.gaps] == [missing]
    assert need.uniform == -(-missing // 2)
    assert ls.adapt(*pair, need.uniform).certificate.exact


def test_the_partition_follows_what_each_target_layer_needs():
    rng = np.random.default_rng(0)
    frozen = matrices(rng, 4, 4)
    target = [frozen[0], matrices(rng, 1, 4)[0]]  # the first layer is there already
    zero = [np.zeros(4)] * 4
    need = ls.rank_needed(network(frozen, zero), network(target, zero[:2]))
    assert need.partition == ((0,), (1, 2, 3))
    assert need.per_layer == (0, 2, 1, 1)
    assert (need.uniform, need.paper_uniform) == (2, 2)


def test_a_narrow_target_needs_its_own_width_and_padding_the_frozen_ones():
    frozen, _ = fnn(6, 2, 1)
    _, target = fnn(2, 1, 1)
    need = ls.rank_needed(frozen, target)
    assert (need.uniform, need.paper_uniform) == (1, 3)


def test_float32_noise_is_no_rank():
    frozen, _ = fnn(6, 2, 1)
    exact = network([chain([layer.weight.detach().numpy() for layer in frozen.linears])], [np.zeros(6)]).float()
    assert ls.rank_needed(frozen.float(), exact).uniform == 0
    assert ls.rank_needed(frozen.double(), exact).uniform == 0


def test_transformers_name_their_heads_and_ask_per_parameter():
    frozen, target = transformer(4, 2, 2)
    need = ls.rank_needed(frozen, target)
    assert (need.uniform, need.paper_uniform, need.partition) == (2, 2, None)
    assert need.per_layer == (2, 2, 2)
    groups = [gap.group for gap in need.gaps]
    assert groups[:2] == [("blocks.0.query[0]", "blocks.0.key[0]"), ("blocks.0.value[0]", "blocks.0.out[0]")]
    assert groups[-1] == ("blocks.1.ffn_out.weight", "output.weight")
    assert len(groups) == 9
    assert [name for name, rank in need.per_parameter.items() if rank == 0] == [
        "blocks.0.ffn_in.weight",
        "blocks.0.ffn_out.weight",
        "blocks.1.ffn_in.weight",
    ]
    with torch.no_grad():
        for name, parameter in target.named_parameters():
            if "query" not in name:
                parameter.copy_(dict(frozen.named_parameters())[name])
        target.layers[1].query.copy_(frozen.layers[1].query)
    need = ls.rank_needed(frozen, target)
    assert (need.uniform, need.per_layer) == (2, (2, 0, 0))
    assert {name for name, rank in need.per_parameter.items() if rank} == {"blocks.0.query", "blocks.0.key"}


@pytest.mark.parametrize("narrow", [2, 4])
def test_the_global_random_state_stays(narrow):
    frozen, _ = transformer(4, 2, 1)
    _, target = transformer(narrow, 1, 1)
    before = torch.get_rng_state()
    ls.rank_needed(frozen, target)
    assert torch.equal(torch.get_rng_state(), before)


def test_complex_weights_are_refused():
    frozen, target = fnn(3, 2, 1)
    target.linears[0].weight = torch.nn.Parameter(target.linears[0].weight.detach().to(torch.complex128))
    with pytest.raises(SpecError, match=r"target must have real weights, but layers.0.weight is torch.complex128"):
        ls.rank_needed(frozen, target)
