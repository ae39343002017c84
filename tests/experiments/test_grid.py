"""From a suite to its cells."""

import pytest

from experiments.tiny import TINY
from lorascope.errors import SpecError
from lorascope.experiments import effort, grid, load_suite, parse_suite, suite_names
from lorascope.records import cell_name

# depths x inits x seeds x (cells of all methods), at the scale "paper"
SIZES = {
    "bias": 1 * 2 * 5 * 2,
    "depth": 13 * 1 * 5 * 1,
    "final-layers": 1 * 2 * 5 * (1 + 7),
    "fnn": 1 * 2 * 5 * 4,
    "fnn-depths": 2 * 2 * 5 * 4,
    "linear": 1 * 2 * 5 * 3,
    "rank-allocation": 1 * 2 * 5 * 5,
}


def test_there_is_a_size_for_every_suite():
    assert sorted(SIZES) == suite_names()


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name):
    cells = grid(load_suite(name), "paper")
    assert len(cells) == SIZES[name]
    assert len({cell_name(spec) for spec in cells}) == len(cells)
    assert all(effort(spec) > 0 for spec in cells)


def test_scales_share_no_cell():
    suite = load_suite("fnn")
    names = [{cell_name(spec) for spec in grid(suite, scale)} for scale in ("smoke", "paper")]
    assert names[0].isdisjoint(names[1])


def test_a_cell_says_what_it_depends_on_and_no_more():
    by_method = {str(spec["method"]): set(spec) for spec in grid(parse_suite(TINY, "tiny"), "smoke")}
    training = {"tune_bias", "lr", "weight_decay", "steps", "batch", "validate_every", "dtype"}
    assert by_method["stable"] == by_method["paper"]
    assert by_method["gradient"] - by_method["stable"] == training
    assert by_method["refined"] - by_method["stable"] == {"profile"}
    assert by_method["last-layers"] == (by_method["gradient"] - {"ranks"}) | {"layers"}


def test_the_ranks_of_an_allocation_add_up_to_the_same():
    for scale in ("smoke", "paper"):
        assert {sum(spec["allocation"]) for spec in grid(load_suite("rank-allocation"), scale)} == {32}


def test_a_scale_that_a_suite_has_not():
    with pytest.raises(SpecError, match="scale must be one of smoke for the suite tiny, got 'paper'"):
        grid(parse_suite(TINY, "tiny"), "paper")
