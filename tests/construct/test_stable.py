"""Adaptation where it is hard: singular weights, odd partitions, ranks one by one, products below the threshold."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lorascope as ls
from contracts.cases import transformer
from lorascope import construct
from lorascope.errors import AssumptionError, SpecError
from lorascope.models import FNN
from reference.attack import assert_bound_holds, errors, inputs_of
from reference.cases import ball, matrices, network, seeds, worst_error
from reference.networks import chain, low_rank


def linear(weights):
    return network(weights, activation="identity")


def names(ranks):
    return {f"layers.{layer}.weight": rank for layer, rank in enumerate(ranks)}


def product_of(model):
    return chain([layer.weight.detach().numpy() for layer in model.linears])


def spectral_error(found, target):
    return np.linalg.norm(product_of(found.model) - target, 2)


def singular(rng, width, rank):
    left, right = (np.linalg.qr(rng.standard_normal((width, width)))[0] for _ in range(2))
    return (left[:, :rank] * rng.uniform(0.5, 2, rank)) @ right[:rank]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("width", "depth", "rank"), [(6, 2, 1), (6, 2, 2), (5, 2, 0), (8, 2, 3), (6, 4, 1), (9, 4, 2)])
def test_below_the_threshold_a_linear_chain_leaves_the_next_singular_value(width, depth, rank, seed):
    rng = np.random.default_rng(seed)
    *frozen, target = matrices(rng, depth + 1, width, "generic")
    found = construct.stable(linear(frozen), linear([target]), rank)
    least = np.linalg.svd(target - chain(frozen), compute_uv=False)[rank * depth]
    assert spectral_error(found, target) == pytest.approx(least, rel=1e-9 if depth == 2 else 1e-7)
    assert not found.certificate.exact


@settings(max_examples=20)
@given(seeds, st.integers(1, 6), st.integers(1, 3), st.data())
def test_any_ranks_layer_by_layer_leave_the_singular_value_beyond_their_sum(seed, width, depth, data):
    rng = np.random.default_rng(seed)
    *frozen, target = matrices(rng, depth + 1, width)
    ranks = data.draw(st.lists(st.integers(0, 3), min_size=depth, max_size=depth))
    found = construct.stable(linear(frozen), linear([target]), ranks=names(ranks))
    values = [*np.linalg.svd(target - chain(frozen), compute_uv=False), *[0.0] * 20]
    assert spectral_error(found, target) == pytest.approx(values[sum(ranks)], rel=1e-7, abs=1e-11)
    assert all(adapter.rank <= names(ranks)[name] for name, adapter in found.adapters.items())


@pytest.mark.parametrize("ranks", [(1, 0, 1), (0, 2, 0), (0, 1, 1), (2, 0, 0)])
def test_complex_pairs_and_layers_that_keep_still(ranks):
    frozen, goal = [np.eye(2)] * 3, np.array([[1.3, -2.0], [1.0, 1.3]])
    found = construct.stable(linear(frozen), linear([goal]), ranks=names(ranks))
    assert spectral_error(found, goal) <= 1e-12
    assert found.certificate.exact


def test_commuting_layers_where_a_flag_is_singular():
    found = construct.stable(linear([np.diag([2.0, 1.0])] * 2), linear([np.diag([2.0, 3.0])]), 1)
    assert found.certificate.exact
    assert spectral_error(found, np.diag([2.0, 3.0])) <= 1e-12


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_two_zero_layers_leave_the_singular_value_beyond_one_rank(rank):
    rng = np.random.default_rng(5)
    target = matrices(rng, 1, 4)[0]
    found = construct.stable(linear([np.zeros((4, 4))] * 2), linear([target]), rank)
    values = [*np.linalg.svd(target, compute_uv=False), 0.0]
    assert spectral_error(found, target) == pytest.approx(values[rank], rel=1e-6, abs=1e-9)
    assert found.certificate.exact == (rank == 4)
    if rank < 4:
        assert any("singular" in note for note in found.certificate.conditions)


@pytest.mark.parametrize(("width", "depth", "lost"), [(3, 2, 1), (4, 2, 1), (4, 3, 1), (4, 2, 2), (2, 4, 1)])
@pytest.mark.parametrize("activation", ["identity", "relu"])
def test_singular_layers_at_the_rank_needed(width, depth, lost, activation):
    rng = np.random.default_rng(width + depth)
    frozen = [singular(rng, width, width - lost) for _ in range(depth)]
    target = matrices(rng, 1, width)
    zero = lambda count: [np.zeros(width)] * count  # noqa: E731
    pair = network(frozen, zero(depth), activation), network(target, zero(1), activation)
    need = ls.rank_needed(*pair)
    assert need.uniform >= lost
    for how in ({"rank": need.uniform}, {"ranks": need.per_parameter}):
        found = construct.stable(*pair, **how)
        assert found.certificate.exact, found.certificate
        assert worst_error(found.model, pair[1], ball(rng, 100, width, 3.0)) <= 1e-8
    below = construct.stable(*pair, need.uniform - 1, seconds=1)
    assert not below.certificate.exact
    assert_bound_holds(below.certificate.error_bound, below.model, pair[1], below.certificate.domain, width)


PROJECTIONS = {
    "outputs out of reach": ([[1, 0], [0, 0]], [[0, 0], [0, 1]], [[1, 0], [0, 0]]),
    "both out of reach": ([[1, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 1], [0, 0]]),
    "inputs out of reach": ([[1, 0], [0, 0]], [[1, 0], [0, 0]], [[0, 1], [0, 0]]),
    "one way only": ([[0, 0], [1, 0]], [[1, 0], [0, 0]], [[1, 0], [0, 0]]),
    "nothing wanted": ([[1, 0], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]),
}


@pytest.mark.parametrize("case", PROJECTIONS)
def test_the_ranks_needed_suffice_for_chains_of_projections(case):
    first, second, goal = (np.array(matrix, dtype=float) for matrix in PROJECTIONS[case])
    frozen, target = linear([first, second]), linear([goal])
    need = ls.rank_needed(frozen, target)
    assert spectral_error(construct.stable(frozen, target, need.uniform), goal) <= 1e-9
    assert spectral_error(construct.stable(frozen, target, ranks=need.per_parameter), goal) <= 1e-9


# ranks of the frozen layers, rank of the target
SINGULAR = [
    ((0, 2), 2),
    ((1, 1), 2),
    ((2, 1, 0), 3),
    ((1, 1, 3), 3),
    ((0, 1), 1),
    ((2, 2, 1), 1),
    ((1, 2, 1), 2),
    ((2, 3, 1), 2),
]


@pytest.mark.parametrize(("kept", "wanted"), SINGULAR)
def test_the_ranks_needed_suffice_for_singular_layers_and_targets_of_any_rank(kept, wanted):
    rng = np.random.default_rng(0)
    width = max(*kept, wanted)
    frozen = [singular(rng, width, rank) for rank in kept]
    goal = singular(rng, width, wanted)
    pair = linear(frozen), linear([goal])
    need = ls.rank_needed(*pair)
    assert spectral_error(construct.stable(*pair, need.uniform), goal) <= 1e-8
    assert spectral_error(construct.stable(*pair, ranks=need.per_parameter), goal) <= 1e-8


@pytest.mark.parametrize("kept", [0, 1, 3])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_targets_of_any_rank_down_to_zero_are_exact_at_the_rank_needed(kept, depth):
    rng = np.random.default_rng(depth)
    frozen = matrices(rng, depth, 4)
    goal = low_rank(matrices(rng, 1, 4)[0], kept)
    biases = [rng.standard_normal(4) for _ in range(depth + 1)]
    pair = network(frozen, biases[:depth]), network([goal], biases[depth:])
    need = ls.rank_needed(*pair)
    assert need.uniform == -(-4 // depth)
    for how in ({"rank": need.uniform}, {"ranks": need.per_parameter}):
        found = construct.stable(*pair, **how)
        assert found.certificate.exact
        assert worst_error(found.model, pair[1], ball(rng, 100, 4, 10.0)) <= 1e-9


def test_a_target_that_is_zero_everywhere_is_reached_up_to_rounding():
    """Its largest output is 0: nothing relative can be asked of the bound."""
    pair = (
        network(matrices(np.random.default_rng(0), 2, 3), [np.zeros(3)] * 2),
        network([np.zeros((3, 3))], [np.zeros(3)]),
    )
    found = construct.stable(*pair, 2)
    assert worst_error(found.model, pair[1], ball(np.random.default_rng(1), 100, 3, 5.0)) <= 1e-12
    assert found.certificate.error_bound <= 1e-12
    assert not found.certificate.exact  # exactness is relative to the target's largest output
    assert "exact means at most 0" in found.certificate.conditions[0]


@pytest.mark.parametrize("partition", [None, [[0, 1], [2, 3, 4]], [[0, 1, 2], [3, 4]], [[0], [1, 2, 3, 4]]])
def test_five_layers_over_two_and_any_partition(partition):
    rng = np.random.default_rng(0)
    weights = matrices(rng, 7, 4)
    biases = [rng.standard_normal(4) for _ in weights]
    pair = network(weights[:5], biases[:5]), network(weights[5:], biases[5:])
    groups = ls.rank_needed(*pair).partition if partition is None else partition
    assert sorted(len(group) for group in ls.rank_needed(*pair).partition) == [2, 3]
    assert ls.rank_needed(*pair).uniform == 2
    rank = -(-4 // min(len(group) for group in groups))
    found = construct.stable(*pair, rank, partition=partition)
    assert found.certificate.exact
    assert worst_error(found.model, pair[1], ball(rng, 200, 4, 12.0)) <= 1e-8
    below = construct.stable(*pair, rank - 1, partition=partition)
    assert not below.certificate.exact
    assert_bound_holds(below.certificate.error_bound, below.model, pair[1], below.certificate.domain, 4)
    per_layer = [
        rank_of for group in groups for rank_of in [4 // len(group) + (i < 4 % len(group)) for i in range(len(group))]
    ]
    assert construct.stable(*pair, ranks=names(per_layer), partition=partition).certificate.exact


def test_layers_named_nowhere_stay_frozen():
    rng = np.random.default_rng(3)
    weights = matrices(rng, 4, 3)
    biases = [rng.standard_normal(3) for _ in weights]
    frozen, target = network(weights[:3], biases[:3]), network(weights[3:], biases[3:])
    found = construct.stable(frozen, target, ranks={"layers.1.weight": 3})
    assert list(found.adapters) == ["layers.1.weight"]
    assert found.certificate.exact
    assert construct.stable(frozen, target, ranks={}).adapters == {}


PAPERS = {
    "a frozen weight": ([np.diag([1.0, 1e-17]), np.eye(2)], np.eye(2), "Theorem 3.*frozen weight"),
    "a partial sum": ([np.eye(2), np.eye(2)], np.diag([0.0, 1.5]), "Theorem 3.*partial sum"),
}


@pytest.mark.parametrize("case", PAPERS)
@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_the_papers_construction_names_the_assumption_that_fails(case, activation):
    frozen, goal, words = PAPERS[case]
    zero = [np.zeros(2)] * 2
    pair = network(frozen, zero, activation), network([goal], zero[:1], activation)
    with pytest.raises(AssumptionError, match=f"{words}.*required.*construct.stable") as raised:
        construct.paper(*pair, 1)
    assert 0 <= raised.value.measured < 1e-15 < raised.value.required
    if case == "a partial sum":
        assert construct.stable(*pair, 1).certificate.exact


def test_the_papers_construction_on_its_own_partition_may_need_more():
    rng = np.random.default_rng(0)
    weights = matrices(rng, 7, 4)
    biases = [rng.standard_normal(4) for _ in weights]
    pair = network(weights[:5], biases[:5]), network(weights[5:], biases[5:])
    found = construct.paper(*pair, 2)
    assert found.method == "paper"
    assert found.certificate.exact
    assert ls.rank_needed(*pair).paper_uniform == 2


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.parametrize("which", ["frozen", "target"])
def test_weights_of_any_size_give_a_finite_bound_or_an_error_that_says_so(scale, which):
    big, small = network([scale * np.eye(2)] * 2, [np.zeros(2)] * 2), network([np.eye(2)], [np.zeros(2)])
    if which == "target":
        big, small = network([np.eye(2)] * 2, [np.zeros(2)] * 2), network([scale * np.eye(2)], [np.zeros(2)])
    try:
        found = construct.stable(big, small, 2)
    except SpecError as error:
        assert which in str(error)  # noqa: PT017
        return
    assert np.isfinite(found.certificate.error_bound)


def test_a_narrow_target_in_float32_on_a_box():
    generator = torch.Generator().manual_seed(0)
    frozen = FNN(5, 3, generator=generator, dtype=torch.float32)
    target = FNN(2, 1, generator=generator, dtype=torch.float32)
    box = ls.Box([-1.0, 2.0], [1.0, 2.5])
    found = construct.stable(frozen, target, ls.rank_needed(frozen, target).uniform, domain=box)
    assert found.certificate.exact
    assert ls.rank_needed(frozen, target).uniform == 1
    points = inputs_of(box, 2, 200, 0).float().double()
    assert float(errors(found.model, target, points).detach().max()) <= found.certificate.error_bound <= 1e-3 * 5


def test_time_that_is_up_does_not_cost_exactness():
    rng = np.random.default_rng(0)
    *frozen, target = matrices(rng, 5, 6, "generic")
    found = construct.stable(linear(frozen), linear([target]), 2, seconds=0)
    assert found.certificate.exact


def test_time_that_is_up_does_not_cost_exactness_of_singular_chains():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        goal = matrices(rng, 1, 3)[0]
        found = construct.stable(linear([np.zeros((3, 3))] * 2), linear([goal]), 3, seconds=0)
        assert found.certificate.exact
        assert spectral_error(found, goal) <= 1e-9


def test_a_linear_network_without_biases_says_what_it_cannot_add():
    rng = np.random.default_rng(0)
    first, second, goal = matrices(rng, 3, 3)
    target = network([goal], [np.array([0.0, 3.0, 4.0])], activation="identity")
    found = construct.stable(linear([first, second]), target, 2)
    assert not found.certificate.exact
    assert found.biases == {}
    assert any("norm 5" in note and "frozen model has none" in note for note in found.certificate.conditions)
    worst = assert_bound_holds(found.certificate.error_bound, found.model, target, ls.Ball(1.0), 3)
    assert worst == pytest.approx(5.0)


def test_a_bias_out_of_reach_of_a_singular_target_matrix_is_named():
    frozen, target = transformer(3, 1, 2)
    with torch.no_grad():
        target.layers[0].ffn_out.weight.copy_(torch.diag(torch.tensor([1.0, 1.0, 0.0])))
        target.layers[0].ffn_out.bias.copy_(torch.tensor([0.0, 0.0, 2.0]))
    found = construct.stable(frozen, target, 3, domain=ls.Ball(1.0))
    assert not found.certificate.exact
    assert any("blocks.0.ffn_out.bias" in note and "range" in note for note in found.certificate.conditions)
    assert_bound_holds(found.certificate.error_bound, found.model, target, ls.Ball(1.0), 3, tokens=3, count=32, steps=8)


def test_rounding_that_switches_units_off_leaves_a_large_bound_and_says_so():
    """The paper's adapters of a deep product are so large that float32 keeps no digit of the hidden values."""
    rng = np.random.default_rng(0)
    weights = matrices(rng, 9, 12, "generic")
    biases = [rng.standard_normal(12) for _ in weights]
    frozen, target = network(weights[:8], biases[:8]).float(), network(weights[8:], biases[8:]).float()
    found = construct.paper(frozen, target, 2)
    assert not found.certificate.exact
    assert any("hidden ReLUs may switch off" in note for note in found.certificate.conditions)
    assert found.certificate.expected_error_bound <= found.certificate.error_bound
    assert np.isfinite(found.certificate.error_bound)
    domain = found.certificate.domain
    assert_bound_holds(found.certificate.error_bound, found.model, target, domain, 12, count=32, steps=8)
