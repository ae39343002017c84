"""One adaptation a rank: never worse as the rank grows, in the order asked for."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import lorascope as ls
from contracts.cases import fnn
from contracts.test_methods import assert_equal, assert_only_adapters_and_biases_changed
from lorascope import construct
from lorascope.construct.refine import input_source
from lorascope.errors import RankError, ShapeError, SpecError


def path(frozen, target, ranks, **how):
    return construct.refined_path(frozen, target, ranks, **{"profile": "fast", "seconds": 600} | how)


def square(model, target, rows):
    with torch.no_grad():
        return float((model(rows) - target(rows)).square().mean())


def normal(width, count=4000, seed=9):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kept_apart(samples):
    """What the path chooses by: with the default generator, the same quarter."""
    generator = torch.Generator().manual_seed(0)
    return input_source(samples.shape[1:], samples, None, generator, torch.device("cpu")).validation


@pytest.mark.parametrize("seconds", [0, 600])
@pytest.mark.parametrize(("sizes", "seed"), [((4, 2, 1), 0), ((4, 2, 1), 1), ((4, 4, 2), 2), ((5, 3, 2), 3)])
def test_more_rank_is_never_worse(sizes, seed, seconds):
    frozen, target = fnn(*sizes, seed=seed)
    need = ls.rank_needed(frozen, target).uniform
    samples = normal(sizes[0], 3000, seed)
    found = path(frozen, target, range(need + 1), samples=samples, seconds=seconds)
    for inputs, slack in ((kept_apart(samples), 1 + 1e-12), (normal(sizes[0]), 1.02)):
        squares = [square(one.model, target, inputs) for one in found]
        assert all(later <= slack * earlier for earlier, later in pairwise(squares))
        assert squares[-1] < 1e-20 < squares[-2]
    assert [one.certificate.exact for one in found] == [False] * need + [True]
    for rank, one in enumerate(found):
        assert_only_adapters_and_biases_changed(frozen, one, rank)


def test_a_few_samples_keep_the_promise_on_what_they_are_chosen_by():
    frozen, target = fnn(5, 2, 1)
    for count in (1, 3, 9, 30):
        samples = normal(5, count, count)
        found = path(frozen, target, [0, 1, 2], samples=samples)
        squares = [square(one.model, target, kept_apart(samples)) for one in found]
        assert all(later <= earlier * (1 + 1e-12) for earlier, later in pairwise(squares))


def test_ranks_come_back_in_the_order_asked_for_and_twice_where_asked_twice():
    frozen, target = fnn(4, 2, 1)
    up, mixed = path(frozen, target, [0, 1, 2]), path(frozen, target, (2, 0, 1, 2, 0))
    for one, index in zip(mixed, (2, 0, 1, 2, 0), strict=True):
        assert_equal(one.model.state_dict(), up[index].model.state_dict())
        assert one.certificate == up[index].certificate


def test_a_single_rank_is_a_refinement():
    frozen, target = fnn(4, 2, 1)
    (found,) = path(frozen, target, [1])
    alone = construct.refined(frozen, target, 1, profile="fast", seconds=600)
    assert_equal(found.model.state_dict(), alone.model.state_dict())
    assert found.certificate == alone.certificate


def test_ranks_above_the_threshold_and_integers_of_numpy(unchecked_annotations):
    frozen, target = fnn(3, 2, 1)
    found = path(frozen, target, [2, 7, np.int64(3)])
    assert all(one.certificate.exact for one in found)


def test_a_gap_at_the_edge_of_rounding_stays_exact_where_it_is_closed():
    """The rank below the threshold may round better on a few inputs; the certificate for all of them counts."""
    frozen, target = fnn(4, 2, 1, "identity")
    samples = normal(4, 60) @ torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64))
    found = path(frozen, target, [0, 1, 2, 3], samples=samples)
    assert [one.certificate.exact for one in found] == [False, False, True, True]
    assert square(found[1].model, target, samples) < 1e-25


def test_partition_domain_and_progress_are_those_of_every_rank():
    frozen, target = fnn(3, 4, 2)
    shares = []
    found = path(
        frozen,
        target,
        [0, 1],
        partition=[[0], [1, 2, 3]],
        domain=ls.Ball(1.0),
        seconds=0,
        progress=lambda share, what: shares.append((share, what)),
    )
    assert all(one.certificate.domain == ls.Ball(1.0) for one in found)
    assert all("1 | 3" in one.method or "1 | 1+1+1" in one.method for one in found)
    assert all(earlier <= later for (earlier, _), (later, _) in pairwise(shares))
    assert {what.split(":")[0] for _, what in shares} == {"rank 0", "rank 1"}


WRONG = {
    "none": ([], "at least one rank, got none"),
    "negative": ([1, -1], "rank must be an integer of at least 0, got -1"),
    "no integer": ([1, 1.5], "rank must be an integer of at least 0, got 1.5"),
    "a bool": ([True], "rank must be an integer of at least 0, got True"),
    "not a number": (["2"], "rank must be an integer of at least 0, got '2'"),
    "nested": ([[1]], r"rank must be an integer of at least 0, got \[1\]"),
    "nothing": ([None], "rank"),
}


@pytest.mark.parametrize(("ranks", "words"), WRONG.values(), ids=WRONG)
def test_ranks_that_are_none_are_refused(ranks, words, unchecked_annotations):
    with pytest.raises(RankError, match=words):
        path(*fnn(3, 2, 1), ranks)


def test_other_wrong_input_is_refused_before_any_work(unchecked_annotations):
    frozen, target = fnn(3, 2, 1)
    for error, words, how in (
        (ShapeError, r"\(number, 3\).*\(5, 2\)", {"samples": torch.ones(5, 2)}),
        (SpecError, "profile must be one of .*'fast', 'full'.*got 'slow'", {"profile": "slow"}),
        (SpecError, "seconds must be a number of at least 0", {"seconds": -1}),
    ):
        with pytest.raises(error, match=words):
            path(frozen, target, [1], **how)
