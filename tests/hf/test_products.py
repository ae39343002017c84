"""Value and output adapters fitted together: against products formed whole, closed forms and a general optimiser."""

import itertools
from dataclasses import replace

import pytest
import torch

from lorascope.errors import RankError, ShapeError, SpecError
from lorascope.hf.products import Products, ProductWeights, product_error, refine_products
from lorascope.hf.second_moment import root_of
from lorascope.linalg import truncate, truncate_weighted
from lorascope.models import Adapter

# heads, groups, head_dim, inp, out
SHAPES = [(3, 3, 2, 8, 7), (4, 2, 3, 9, 10), (6, 1, 2, 5, 4), (1, 1, 1, 1, 1), (2, 1, 5, 3, 4)]


def draw(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def made(generator, shape, bias=False, size=0.5):
    """A base and a tuned model; some directions count for much more than others."""
    heads, groups, head_dim, inp, out = shape
    value, output = draw(generator, groups * head_dim, inp), draw(generator, out, heads * head_dim)
    value *= 2.0 ** draw(generator, len(value), 1)
    output *= 2.0 ** draw(generator, output.shape[1])
    return Products(
        value,
        value + size * draw(generator, *value.shape),
        output,
        output + size * draw(generator, *output.shape),
        heads,
        groups,
        draw(generator, len(value)) if bias else None,
    )


def weighted(generator, given, inputs=None, gradients=None, mean=False):
    """Weights from samples, and the samples: rows of x and of g."""
    inp, out = given.value.shape[1], given.out.shape[0]
    x = draw(generator, inputs or 3 * inp, inp) * 2.0 ** draw(generator, inp) + mean
    g = draw(generator, gradients or 3 * out, out) * 2.0 ** draw(generator, out)
    middle = x.mean(0) if mean else None
    return ProductWeights(root_of(x.T @ x / len(x)), root_of(g.T @ g / len(g)), middle), x, g


def adapted(given, value, out):
    return replace(given, value=given.value + value.delta, out=given.out + out.delta)


def formed(given, value=None, out=None, x=None, g=None):
    """The error from every head's product, formed whole and applied to every sample."""
    now = given if value is None else adapted(given, value, out)
    heads, share = given.heads, given.heads // given.groups
    head_dim = given.out.shape[1] // heads
    total = 0.0
    for head in range(heads):
        rows = slice(head // share * head_dim, (head // share + 1) * head_dim)
        columns = slice(head * head_dim, (head + 1) * head_dim)
        inputs = torch.eye(given.value.shape[1], dtype=torch.float64) if x is None else x
        wanted, got = given.value_tuned[rows] @ inputs.T, now.value[rows] @ inputs.T
        if given.bias is not None:
            wanted, got = wanted + given.bias[rows, None], got + given.bias[rows, None]
        gap = given.out_tuned[:, columns] @ wanted - now.out[:, columns] @ got
        gap = gap if g is None else g @ gap / len(g) ** 0.5
        total = total + gap.square().sum() / (1 if x is None else len(x))
    return total**0.5


def plain(given, ranks):
    pairs = (given.value_tuned - given.value, ranks[0]), (given.out_tuned - given.out, ranks[1])
    (b, a), (d, c) = (truncate(difference, rank) for difference, rank in pairs)
    return Adapter(a, b), Adapter(c, d)


def factors(generator, given, ranks, size=0.3):
    """Some adapters, not good ones."""
    return tuple(
        Adapter(size * draw(generator, rank, matrix.shape[1]), size * draw(generator, matrix.shape[0], rank))
        for matrix, rank in zip((given.value, given.out), ranks, strict=True)
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [False, True])
def test_the_error_is_that_of_the_products_formed_whole(shape, bias, generator):
    given = made(generator, shape, bias)
    value, out = factors(generator, given, (2, 1))
    weights, x, g = weighted(generator, given, mean=bias)
    error, whole = product_error(given, value, out, weights)
    torch.testing.assert_close([error, whole], [float(formed(given, value, out, x, g)), float(formed(given, x=x, g=g))])
    if not bias:
        assert product_error(given, value, out)[0] == pytest.approx(float(formed(given, value, out)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ranks", [(1, 1), (2, 1), (0, 2), (2, 0), (0, 0), (3, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_no_sweep_and_no_start_makes_it_worse(shape, ranks, bias, generator):
    given = made(generator, shape, bias)
    weights, x, g = weighted(generator, given, mean=bias)
    for start in (None, plain(given, ranks), factors(generator, given, ranks)):
        found = [
            refine_products(given, ranks, generator, start=start, weights=weights, sweeps=sweeps) for sweeps in range(6)
        ]
        errors = [one.error for one in found]
        assert errors[0] == found[0].start_error
        assert all(after <= before * (1 + 1e-12) + 1e-12 for before, after in itertools.pairwise(errors))
        last = found[-1]
        assert last.value.rank <= ranks[0]
        assert last.out.rank <= ranks[1]
        measured = formed(given, last.value, last.out, x, g) / formed(given, x=x, g=g)
        assert last.error == pytest.approx(float(measured), abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_full_ranks_are_exact(shape, generator):
    given = made(generator, shape)
    ranks = min(given.value.shape), min(given.out.shape)
    assert refine_products(given, ranks, generator, sweeps=0).error < 1e-12
    found = refine_products(given, ranks, generator, start=factors(generator, given, (1, 1)), sweeps=30)
    assert found.error < 1e-6
    assert found.start_error > 0.1


def test_what_one_side_can_do_alone_is_done(generator):
    """The outputs' change, at the rank it has; and a change of the values that the outputs can make up for."""
    given = made(generator, (3, 3, 2, 8, 7))
    given = replace(given, value_tuned=given.value)
    assert refine_products(given, (0, 6), generator).error < 1e-12
    turned = torch.block_diag(*(draw(generator, 2, 2) for _ in range(3)))
    given = replace(given, value_tuned=turned @ given.value, out_tuned=given.out)
    assert refine_products(given, (0, 6), generator).error < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 2])
def test_a_step_is_the_closed_form_on_matrices_formed_whole(shape, rank, generator):
    given = made(generator, shape)
    weights, x, g = weighted(generator, given)
    moment, outer = x.T @ x / len(x), g.T @ g / len(g)
    heads, share = given.heads, given.heads // given.groups
    head_dim = given.out.shape[1] // heads
    values, tuned = (m.view(-1, head_dim, m.shape[1]) for m in (given.value, given.value_tuned))
    outs, outs_tuned = (m.view(len(m), heads, head_dim).permute(1, 0, 2) for m in (given.out, given.out_tuned))
    gaps = [outs_tuned[h] @ tuned[h // share] - outs[h] @ values[h // share] for h in range(heads)]

    # outputs beside the base's values: normal equations of each head, then one weighted truncation
    grams = [v @ moment @ v.T for v in values for _ in range(share)]
    cross = [gap @ moment @ values[h // share].T for h, gap in enumerate(gaps)]
    free = torch.cat([c @ torch.linalg.pinv(gram, rtol=1e-10) for c, gram in zip(cross, grams, strict=True)], dim=1)
    left = weights.gradients.factor.T @ free
    best = torch.linalg.solve(
        weights.gradients.factor.T, torch.mm(*truncate_weighted(left, torch.block_diag(*grams), rank))
    )
    found = refine_products(given, (0, rank), generator, weights=weights, sweeps=1)
    torch.testing.assert_close(found.out.delta, best, rtol=1e-6, atol=1e-8)

    # values beside the base's outputs
    grams = [sum(outs[h].T @ outer @ outs[h] for h in range(k * share, (k + 1) * share)) for k in range(given.groups)]
    cross = [sum(outs[h].T @ outer @ gaps[h] for h in range(k * share, (k + 1) * share)) for k in range(given.groups)]
    free = torch.cat([torch.linalg.pinv(gram, rtol=1e-10) @ c for c, gram in zip(cross, grams, strict=True)])
    right = free @ weights.inputs.factor
    best = torch.mm(*truncate_weighted(right.T, torch.block_diag(*grams), rank)).T
    best = torch.linalg.solve(weights.inputs.factor.T, best.T).T
    found = refine_products(given, (rank, 0), generator, weights=weights, sweeps=1)
    torch.testing.assert_close(found.value.delta, best, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES[:3])
@pytest.mark.parametrize("bias", [False, True])
def test_a_general_optimiser_finds_nothing_better_from_there(shape, bias, generator):
    given = made(generator, shape, bias)
    weights, x, g = weighted(generator, given, mean=bias)
    ranks = 2, 1
    found = refine_products(given, ranks, generator, weights=weights, sweeps=400)
    reached = product_error(given, found.value, found.out, weights)[0]
    again = descended(given, (found.value, found.out), x, g)
    assert again >= reached * 0.99
    # from the plain start it ends no lower either, and well below that start
    start = plain(given, ranks)
    assert descended(given, start, x, g) >= reached * 0.97
    assert reached < 0.9 * float(formed(given, *start, x, g))


def descended(given, start, x, g):
    """Least error that L-BFGS on the factors reaches."""
    parameters = [
        part.clone(memory_format=torch.contiguous_format).requires_grad_()
        for adapter in start
        for part in (adapter.A, adapter.B)
    ]
    optimiser = torch.optim.LBFGS(parameters, max_iter=300, history_size=30, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        a, b, c, d = parameters
        loss = formed(given, Adapter(a, b), Adapter(c, d), x, g) ** 2
        loss.backward()
        return loss

    optimiser.step(closure)
    return float(closure().detach()) ** 0.5


def test_weights_count(generator):
    given = made(generator, SHAPES[0])
    weights, x, g = weighted(generator, given)
    with_weights = refine_products(given, (2, 2), generator, weights=weights)
    without = refine_products(given, (2, 2), generator)
    assert formed(given, with_weights.value, with_weights.out, x, g) < formed(given, without.value, without.out, x, g)
    assert formed(given, with_weights.value, with_weights.out) > formed(given, without.value, without.out)


def test_a_scale_of_the_weights_changes_nothing(generator):
    given = made(generator, SHAPES[1])
    weights, x, g = weighted(generator, given)
    larger = ProductWeights(root_of(9 * x.T @ x / len(x)), root_of(4 * g.T @ g / len(g)))
    found = [refine_products(given, (2, 2), generator, weights=one) for one in (weights, larger)]
    torch.testing.assert_close(found[0].value.delta, found[1].value.delta)
    torch.testing.assert_close(found[0].out.delta, found[1].out.delta)


def test_singular_weights_and_dead_heads_leave_what_does_not_count_alone(generator):
    given = made(generator, SHAPES[1])
    dead = given.out.clone(), given.out_tuned.clone()
    for matrix in dead:
        matrix[:, :6] = 0  # both heads of the first group
    given = replace(given, out=dead[0], out_tuned=dead[1])
    weights, x, g = weighted(generator, given, inputs=4, gradients=5)
    found = refine_products(given, (2, 2), generator, weights=weights, sweeps=50)
    start = plain(given, (2, 2))
    assert found.error < 0.9 * float(formed(given, *start, x, g) / formed(given, x=x, g=g))
    assert all(bool(part.isfinite().all()) for a in (found.value, found.out) for part in (a.A, a.B))
    unseen = torch.linalg.svd(x)[2][4:]
    torch.testing.assert_close(found.value.delta @ unseen.T, torch.zeros(6, 5, dtype=torch.float64))
    assert found.value.delta.norm() < 3 * (given.value_tuned - given.value).norm()
    assert found.out.delta.norm() < 3 * (given.out_tuned - given.out).norm()
    nothing = ProductWeights(root_of(torch.zeros(9, 9)), root_of(torch.zeros(10, 10)))
    found = refine_products(given, (2, 2), generator, weights=nothing)
    assert (found.error, float(found.value.delta.norm()), float(found.out.delta.norm())) == (0.0, 0.0, 0.0)


def test_no_change_needs_no_adapter(generator):
    given = made(generator, SHAPES[0], size=0.0)
    found = refine_products(given, (2, 2), generator)
    assert (found.error, found.sweeps, found.value.rank, found.out.rank) == (0.0, 0, 0, 0)


def test_factors_share_the_norm(generator):
    found = refine_products(made(generator, SHAPES[1]), (2, 2), generator)
    for adapter in (found.value, found.out):
        torch.testing.assert_close(adapter.A @ adapter.A.T, adapter.B.T @ adapter.B)


def test_heads_in_the_wrong_order_are_noticed(generator):
    given = made(generator, (3, 3, 2, 8, 7))
    found = refine_products(given, (2, 2), generator)
    wrong = Adapter(found.out.A.roll(2, dims=1), found.out.B)
    right = product_error(given, found.value, found.out)[0]
    assert product_error(given, found.value, wrong)[0] > 1.2 * right
    assert float(formed(given, found.value, wrong)) != pytest.approx(right, rel=1e-2)


def test_the_large_way_is_the_small_way(generator):
    """Truncations by a Krylov space, where matrices are large enough for it."""
    given = made(generator, (4, 2, 16, 64, 64))
    weights, _, _ = weighted(generator, given)
    found = refine_products(given, (2, 2), generator, weights=weights)
    assert found.error < found.start_error < 1
    again = refine_products(given, (2, 2), torch.Generator().manual_seed(7), weights=weights)
    assert again.error == pytest.approx(found.error, rel=1e-2)


def test_what_does_not_fit_is_refused(generator):
    given = made(generator, SHAPES[1])
    for wrong, told in [
        (replace(given, heads=5), "2 groups of 6 value rows must fit 5 heads of 12"),
        (replace(given, groups=3), "3 groups"),
        (replace(given, value_tuned=given.out), r"tuned values must have shape \[6, 9\]"),
        (replace(given, bias=torch.ones(5)), "bias"),
    ]:
        with pytest.raises(ShapeError, match=told):
            refine_products(wrong, (1, 1), generator)
    root = root_of(torch.eye(4))
    for weights in (ProductWeights(inputs=root), ProductWeights(gradients=root)):
        with pytest.raises(ShapeError, match="second moment must have shape"):
            refine_products(given, (1, 1), generator, weights=weights)
    with pytest.raises(ShapeError, match="start"):
        refine_products(given, (1, 1), generator, start=plain(given, (1, 1))[::-1])
    with pytest.raises(RankError, match="-1"):
        refine_products(given, (1, -1), generator)
    with pytest.raises(SpecError, match="second moment beside it"):
        refine_products(given, (1, 1), generator, weights=ProductWeights(mean=torch.zeros(9)))
    with pytest.raises(SpecError, match="finite"):
        refine_products(replace(given, out=given.out * torch.nan), (1, 1), generator)
