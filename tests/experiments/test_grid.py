"""From a suite to its cells."""

import hashlib

import pytest

from experiments.tiny import TINY
from lorascope.errors import SpecError
from lorascope.experiments import effort, grid, load_suite, parse_suite, suite_names
from lorascope.records import cell_name

# depths x inits x seeds x (cells of all methods), at the scale "paper"
SIZES = {
    "bias": 1 * 2 * 5 * 2,
    "binary": 2 * 2 * 5 * 4,
    "certificates": 2 * 1 * 5 * 3,
    "classification": 2 * 2 * 5 * 4,
    "convergence": 2 * 1 * 5 * 1,
    "depth": 13 * 1 * 5 * 1,
    "distribution-shift": 2 * 1 * 5 * (3 * 2),
    "exactness": (4 * 9) * 1 * 5 * (2 * 2),
    "final-layers": 1 * 2 * 5 * (1 + 7),
    "fnn": 1 * 2 * 5 * 4,
    "fnn-depths": 2 * 2 * 5 * 4,
    "generalization": 2 * 1 * 5 * 1,
    "glue": 8 * 5 * (2 + 1),
    "linear": 1 * 2 * 5 * 3,
    "methods": 2 * 2 * 5 * (1 + 2 + 1 + 1),
    "optimization-gap": 2 * 1 * 5 * 3,
    "proximity": 1 * 9 * 5 * 2,
    "rank-allocation": 1 * 2 * 5 * 5,
    "tfn": 2 * 2 * 5 * 4,
}


def test_there_is_a_size_for_every_suite():
    assert sorted(SIZES) == suite_names()


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name):
    cells = grid(load_suite(name), "paper")
    assert len(cells) == SIZES[name]
    assert len({cell_name(spec) for spec in cells}) == len(cells)
    assert all(effort(spec) > 0 for spec in cells)


# hash of all names of a suite's cells at the scales "smoke" and "paper": recorded cells must be found again
NAMES = {
    "bias": ("72bad343a226180f", "0df9b2d3f70fd45d"),
    "depth": ("d3a4eca3375fe05c", "2e0bb895d2faf58a"),
    "final-layers": ("1869f7cf970c5e3a", "8755c3557874004a"),
    "fnn": ("06f41f9127935a78", "b56ade6902d729f0"),
    "fnn-depths": ("d978fee34415cbc2", "63cb4097c7885055"),
    "linear": ("becd0b1145928d32", "d20ff40c3717896e"),
    "rank-allocation": ("ac9a0db07fc93ff3", "91f9119aa8bb13c9"),
}


@pytest.mark.parametrize("name", NAMES)
def test_cells_keep_their_names(name):
    for scale, digest in zip(("smoke", "paper"), NAMES[name], strict=True):
        names = " ".join(cell_name(spec) for spec in grid(load_suite(name), scale))
        assert hashlib.sha256(names.encode()).hexdigest()[:16] == digest


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
