"""Theorem 7: a transformer needs half of the largest gap, the rank by which two products of weights differ."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lorascope as ls
from lorascope import construct
from lorascope.models import TransformerNetwork
from lorascope.theory.transformer import theorem7_gaps, theorem7_rank
from reference.cases import ball, seeds, worst_error
from reference.ranks import integer_product, integer_rank

sizes = {"width": st.integers(1, 4), "heads": st.integers(1, 3), "depth": st.integers(1, 3)}


def networks(seed, width, heads, depth, integers=False):
    generator = torch.Generator().manual_seed(seed)
    made = [TransformerNetwork(width, heads, depth, generator=generator) for _ in range(2)]
    if integers:
        with torch.no_grad():
            for network in made:
                for parameter in network.parameters():
                    parameter.copy_(torch.randint(-1, 2, parameter.shape, generator=generator))
    return made


def entries(network):
    """Every weight as integers, by the paper's names."""
    blocks = []
    for block in network.layers:
        named = {"Q": block.query, "K": block.key, "V": block.value, "O": block.out}
        found = {name: value.detach().numpy().astype(int) for name, value in named.items()}
        found |= {"W1": block.ffn_in.weight.detach().numpy().astype(int)}
        blocks.append(found | {"W2": block.ffn_out.weight.detach().numpy().astype(int)})
    return blocks, network.output.weight.detach().numpy().astype(int)


def gaps_by_elimination(frozen, target):
    (old, old_out), (new, new_out) = entries(frozen), entries(target)
    gaps = []
    for i, (block, wanted) in enumerate(zip(old, new, strict=True)):
        pairs = []
        for h in range(len(block["Q"])):
            chains = []
            for own, before in ((block, old), (wanted, new)):
                inner = [before[i - 1]["W2"]] if i else []
                chains.append(
                    (
                        [*inner, own["Q"][h], own["K"][h].T, *[m.T for m in inner]],
                        [*inner, own["V"][h], own["O"][h], own["W1"]],
                    )
                )
            pairs += list(zip(*chains, strict=True))
        gaps.append(max(integer_rank(integer_product(b) - integer_product(a)) for a, b in pairs))
    last = [integer_product([blocks[-1]["W2"], out]) for blocks, out in ((old, old_out), (new, new_out))]
    return (*gaps, integer_rank(last[1] - last[0]))


@settings(max_examples=40)
@given(seeds, *sizes.values(), st.sets(st.sampled_from(("query", "key", "value", "out", "ffn", "output"))))
def test_gaps_are_the_papers_formulas(seed, width, heads, depth, shared):
    frozen, target = networks(seed, width, heads, depth, integers=True)
    with torch.no_grad():
        for (name, parameter), other in zip(frozen.named_parameters(), target.parameters(), strict=True):
            if any(part in name for part in shared):
                other.copy_(parameter)
    gaps = theorem7_gaps(frozen, target)
    assert gaps == gaps_by_elimination(frozen, target)
    assert theorem7_rank(frozen, target) == int(np.ceil(max(gaps) / 2))


@settings(max_examples=30)
@given(seeds, st.integers(1, 12), st.integers(1, 2), st.integers(1, 2))
def test_random_networks_need_half_the_width(seed, width, heads, depth):
    frozen, target = networks(seed, width, heads, depth)
    assert theorem7_gaps(frozen, target) == (width,) * (depth + 1)
    assert theorem7_rank(frozen, target) == (width + 1) // 2


@settings(max_examples=40)
@given(seeds, *sizes.values())
def test_permuting_the_heads_of_both_changes_nothing_and_a_copy_has_no_gap(seed, width, heads, depth):
    frozen, target = networks(seed, width, heads, depth)
    before = theorem7_gaps(frozen, target)
    assert theorem7_gaps(frozen, frozen) == (0,) * (depth + 1)
    with torch.no_grad():
        for parameter in [*frozen.parameters(), *target.parameters()]:
            if parameter.ndim == 3:
                parameter.copy_(parameter.flip(0))
    assert theorem7_gaps(frozen, target) == before


def test_two_single_changes_are_seen_where_they_act():
    frozen, _ = networks(0, 5, 2, 3)
    target, _ = networks(0, 5, 2, 3)
    with torch.no_grad():
        target.layers[1].query[1, 0, 0] += 1  # one entry: rank 1 in block 2
        target.output.weight += torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    assert theorem7_gaps(frozen, target) == (0, 1, 0, 2)
    assert theorem7_rank(frozen, target) == 1
    with torch.no_grad():
        target.layers[0].ffn_out.weight[0, 0] += (
            1  # seen from both sides of the next block's scores, once by its values
        )
    assert theorem7_gaps(frozen, target) == (0, 3, 0, 2)


def test_biases_are_free():
    frozen, target = networks(0, 4, 1, 1)
    target.load_state_dict({**frozen.state_dict(), **{k: v for k, v in target.state_dict().items() if "bias" in k}})
    assert theorem7_rank(frozen, target) == 0


@pytest.mark.parametrize(("width", "heads", "depth"), [(1, 1, 1), (2, 2, 1), (5, 1, 1), (4, 2, 2)])
def test_adapt_is_exact_at_that_rank(width, heads, depth):
    seed = 10 * width + depth
    frozen, target = networks(seed, width, heads, depth)
    need = ls.rank_needed(frozen, target)
    assert need.uniform == need.paper_uniform == theorem7_rank(frozen, target)
    adapted = construct.stable(frozen, target, ranks=need.per_parameter, domain=ls.Ball(2.0))
    inputs = ball(np.random.default_rng(seed), 40, width, 2.0).reshape(8, 5, width)
    size = 1 + float(target(inputs).detach().norm(dim=-1).max())
    assert adapted.certificate.residual <= 1e-12
    assert adapted.certificate.error_bound <= 1e-4 * size
    if depth == 1:  # deeper, rounding in the scores alone may be more than the certificate allows for exactness
        assert adapted.certificate.exact
    assert worst_error(adapted.model, target, inputs) <= min(adapted.certificate.error_bound, 1e-7 * size)
    names = ("query", "key", "value", "out", f"blocks.{depth - 1}.ffn_out.weight", "output.weight")
    assert all(name.endswith(names) for name in adapted.adapters)
    assert max(adapter.rank for adapter in adapted.adapters.values()) <= theorem7_rank(frozen, target)


def test_adapt_stays_exact_far_outside_the_domain_it_was_given():
    frozen, target = networks(3, 4, 2, 1)
    adapted = construct.stable(frozen, target, 2, domain=ls.Ball(1.0))
    inputs = ball(np.random.default_rng(0), 40, 4, 50.0).reshape(8, 5, 4)
    assert worst_error(adapted.model, target, inputs) <= 1e-6 * float(target(inputs).detach().norm(dim=-1).max())


def test_half_the_gap_less_one_is_not_exact():
    frozen, target = networks(5, 4, 1, 1)
    below = construct.stable(frozen, target, 1, domain=ls.Ball(1.0), seconds=0.5)
    inputs = ball(np.random.default_rng(0), 40, 4, 1.0).reshape(8, 5, 4)
    assert not below.certificate.exact
    assert 1e-6 < worst_error(below.model, target, inputs) <= below.certificate.error_bound
