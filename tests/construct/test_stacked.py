"""One adapter for all heads: exact at the rank that counting gives, with the shapes of PEFT's stacked weights."""

from time import monotonic

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lorascope as ls
from lorascope.construct import stack_heads, stacked
from lorascope.construct.shared import solve_shared
from lorascope.errors import RankError, ShapeError
from lorascope.models import FNN, Adapter
from lorascope.theory import NarrowMatch, stacked_rank
from reference.annotations import jaxtyping_off
from reference.cases import seeds
from reference.variants import FORMS, pair, relative_error, seeded, tokens

HEADS = ("query", "key", "value", ".out")


def ranks_with(frozen, target, rank):
    needed = ls.rank_needed(frozen, target).per_parameter
    return {name: rank if name.endswith(HEADS) else least for name, least in needed.items()}


def heads_of(seed, width, heads, inner):
    generator = seeded(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    eye = torch.eye(width, dtype=torch.float64)
    names = ("first", "second")
    return [
        NarrowMatch(
            names, draw(inner, width), draw(width, inner), eye, eye, draw(inner, width), draw(width, inner), head=head
        )
        for head in range(heads)
    ]


COUNTS = {
    (4, 2, 2): 2,
    (6, 2, 3): 3,
    (6, 3, 2): 4,
    (8, 4, 2): 6,
    (4, 3, 4): 3,
    (7, 6, 7): 6,
    (8, 4, 4): 6,
    (5, 2, 5): 3,
}


@pytest.mark.parametrize("sizes", COUNTS)
def test_generic_heads_meet_the_count(sizes):
    rank = COUNTS[sizes]
    assert stacked_rank(*sizes) == rank
    products = heads_of(0, *sizes)
    found = solve_shared(products, (rank, rank), monotonic() + 30, seeded())
    assert found.residual <= 1e-11
    for index, match in enumerate(products):
        first = match.first + found.first_out[index] @ found.first_in
        second = match.second + found.second_out @ found.second_in[index]
        torch.testing.assert_close(second @ first, match.wanted, atol=1e-9, rtol=1e-9)
    short = solve_shared(products, (rank - 1, rank - 1), monotonic() + 0.3, seeded())
    assert short.residual > 1e-3


def test_wide_heads_need_more_than_one_minus_the_root_says():
    """7 (1 - 1 / sqrt(12)) = 4.98 is the count for heads that divide the embedding; six heads of width 7 need 6."""
    products = heads_of(1, 7, 6, 7)
    assert solve_shared(products, (5, 5), monotonic() + 1, seeded()).residual > 1e-3
    assert solve_shared(products, (6, 6), monotonic() + 30, seeded()).residual <= 1e-11


@settings(max_examples=8)
@given(seeds, st.integers(1, 3), st.integers(1, 2), st.integers(0, 6))
def test_shared_adapters_of_any_rank_are_never_worse_than_none(seed, inner, heads, rank):
    products = heads_of(seed, inner * heads + 1, heads, inner)
    found = solve_shared(products, (rank, rank), monotonic(), seeded())
    total = sum(
        float(
            (match.wanted - (match.second + found.second_out @ b) @ (match.first + a @ found.first_in)).square().sum()
        )
        for match, a, b in zip(products, found.first_out, found.second_in, strict=True)
    )
    assert total <= (1 + 1e-9) * sum(float(match.error.square().sum()) for match in products)
    assert found.first_in.shape[0] <= rank
    assert found.second_out.shape[1] <= rank


@pytest.mark.parametrize("form", ["residual", "usual pre", "post, biases", "biases", "narrow, wide, biases"])
@pytest.mark.parametrize("heads", [1, 2])
def test_whole_networks_are_exact_and_heads_share_their_factor(form, heads):
    made = FORMS[form] | {"head_dim": 2}
    frozen, target = pair(1, 4, heads, 1, **made)
    rank = stacked_rank(4, heads, 2)
    found = stacked(frozen, target, ranks=ranks_with(frozen, target, rank))
    assert relative_error(found.model, target, tokens(0, 4)) <= 1e-9
    assert not any("no shared" in note for note in found.certificate.conditions)
    for name, adapter in found.adapters.items():
        if not name.endswith(HEADS):
            continue
        flat = stack_heads(name, adapter)
        assert flat.rank <= rank
        weight = dict(frozen.named_parameters())[name].detach()
        moved = dict(found.model.named_parameters())[name].detach() - weight
        wide = moved.transpose(0, 1).flatten(1) if name.endswith("out") else moved.flatten(0, 1)
        torch.testing.assert_close(flat.delta, wide, atol=1e-12, rtol=1e-12)


def test_it_costs_rank_against_adapters_of_their_own():
    frozen, target = pair(2, 6, 3, 1, residual=True, head_dim=2)
    own = ls.rank_needed(frozen, target).per_parameter
    assert own["blocks.0.query"] == 2
    assert stacked_rank(6, 3, 2) == 4
    assert (
        relative_error(stacked(frozen, target, ranks=ranks_with(frozen, target, 4)).model, target, tokens(0, 6)) <= 1e-9
    )
    short = stacked(frozen, target, ranks=ranks_with(frozen, target, 3), seconds=0.5)
    assert not short.certificate.exact
    assert any("no shared adapters of ranks 3 and 3" in note for note in short.certificate.conditions)
    error = relative_error(short.model, target, tokens(0, 6))
    assert (
        1e-3
        < error
        < relative_error(stacked(frozen, target, ranks=ranks_with(frozen, target, 0)).model, target, tokens(0, 6))
    )


def test_heads_the_target_lacks_and_equal_networks():
    frozen, _ = pair(3, 4, 3, 1, residual=True, head_dim=2)
    _, target = pair(4, 4, 2, 1, residual=True, head_dim=2)
    found = stacked(frozen, target, 4)
    assert relative_error(found.model, target, tokens(0, 4)) <= 1e-9
    assert not found.adapters["blocks.0.query"].B[2].any()
    same = stacked(frozen, frozen, 2)
    assert same.adapters == {}
    assert same.certificate.exact


def test_wrong_input_is_refused():
    frozen, target = pair(3, 4, 2, 1)
    with pytest.raises(ShapeError, match="for transformers, got FNN"), jaxtyping_off():
        stacked(FNN(2, 1), FNN(2, 1), 1)
    with pytest.raises(ShapeError, match="embed_dim 4 of the target, got 3"):
        stacked(frozen, pair(3, 3, 2, 1)[0], 1)
    with pytest.raises(RankError, match="got neither"):
        stacked(frozen, target)
    own = ls.adapt(frozen, target, 2, seconds=0)
    with pytest.raises(ShapeError, match="query: stacking needs a heads axis and heads that share A"):
        stack_heads("blocks.0.query", own.adapters["blocks.0.query"])
    flat = Adapter(A=torch.ones(1, 2), B=torch.ones(3, 1))
    with pytest.raises(ShapeError, match="share B, got"):
        stack_heads("out", flat)
