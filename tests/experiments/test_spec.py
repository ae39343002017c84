"""Suites: what may be said, and that all faults are named at once."""

import copy

import pytest

from lorascope.errors import SpecError
from lorascope.experiments import load_suite, parse_suite, suite_names

RIGHT = {
    "name": "mine",
    "title": "A suite",
    "width": 4,
    "activation": "relu",
    "bias": True,
    "depths": [{"target": 1, "frozen": 2}],
    "inits": ["random"],
    "methods": ["gradient", "last-layers"],
    "tune_bias": [True],
    "scales": {"smoke": {"ranks": [1, 2], "layers": [1]}},
}


def wrong(changes):
    content = copy.deepcopy(RIGHT)
    for path, value in changes.items():
        *outer, last = path.split(".")
        table = content
        for key in outer:
            table = table[key]
        table[last] = value
    with pytest.raises(SpecError) as caught:
        parse_suite(content, "mine.toml")
    return str(caught.value)


def test_a_right_one_has_the_papers_grid_where_it_says_nothing():
    smoke = parse_suite(RIGHT, "mine.toml").scales["smoke"]
    assert smoke.seeds == [0, 1, 2, 3, 4]
    assert smoke.lr == [1e-2, 1e-3, 1e-4]
    assert smoke.weight_decay == [0, 1e-4, 1e-3, 1e-2]
    assert (smoke.steps, smoke.batch, smoke.test_inputs) == (5000, 256, 5000)


def test_all_faults_at_once():
    message = wrong(
        {
            "colour": "red",
            "width": 4,
            "depths": [{"target": 3, "frozen": 2}, {"target": 1, "frozen": 2, "middle": 1}],
            "inits": ["zero"],
            "scales.smoke": {"ranks": [-1, 1, 99], "layers": ["all"], "lr": [0.0], "steps": 1.5, "seeds": [1, 1]},
            "scales.huge": {"ranks": [1], "layers": [1]},
        }
    )
    assert message.startswith("mine.toml must describe a suite, got 11 faults: ")
    for part in (
        "colour is no key that a suite has",
        "depths[0].frozen must be at least the target's depth 3, got 2",
        "depths[1].middle is no key that a suite has",
        "inits[0]: input should be 'random' or 'pretrained', got 'zero'",
        "scales.smoke.ranks[0]: input should be greater than or equal to 0, got -1",
        "scales.smoke.ranks[2] must be a rank of at most the width 4, got 99",
        "scales.smoke.layers[0]: input should be a valid integer, got 'all'",
        "scales.smoke.lr[0]: input should be greater than 0, got 0.0",
        "scales.smoke.steps",
        "scales.smoke.seeds must not name anything twice, got 1 again",
        "scales.huge: input should be 'smoke', 'medium' or 'paper', got 'huge'",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"scales.smoke.layers": [1, 3]}, "scales.smoke.layers[1] must be at most the frozen depth 2, got 3"),
        ({"scales.smoke.layers": []}, 'scales.smoke.layers is missing, which the method "last-layers" needs'),
        ({"methods": ["gradient"]}, 'scales.smoke.layers is for the method "last-layers", which the suite does not'),
        ({"heads": 2}, 'heads is for the model "transformer", which the suite does not have'),
        ({"model": "transformer", "tokens": 3}, 'heads is missing, which the model "transformer" needs'),
        ({"model": "transformer"}, "depths[0].frozen must be the target's depth 1 for transformers, got 2"),
        (
            {"model": "transformer", "heads": 1, "tokens": 3, "activation": "identity"},
            'activation must be "relu" for the model "transformer"',
        ),
        ({"model": "cnn", "heads": 1}, "got 1 fault: model: input should be 'fnn' or 'transformer', got 'cnn'"),
        (
            {"measure": "exactness"},
            'must be among paper, stable for the measure "exactness", got gradient, last-layers',
        ),
        ({"measure": "exactness", "methods": ["paper"]}, 'scales.smoke.ranks is for the measure "error" or'),
        ({"scales.smoke.ranks": []}, "ranks are empty, but gradient cannot do without"),
        ({"scales.smoke.allocations": [[1, 1, 1]]}, "must have one rank for each of 2 frozen layers, got 3: [1, 1, 1]"),
        ({"scales.smoke.allocations": [[1, 5]]}, "allocations[0][1] must be a rank of at most the width 4, got 5"),
        ({"methods": ["last-layers"], "scales.smoke.allocations": [[1, 1]]}, 'are for the method "gradient"'),
        ({"bias": False}, 'bias must be true for the activation "relu", got false'),
        ({"activation": "identity", "bias": False}, "tune_bias must be [false] for networks without biases"),
        ({"methods": ["stable"], "tune_bias": [False]}, "since stable set biases"),
        ({"scales": {}}, "scales: "),
        ({"methods": []}, "methods: "),
        ({"width": True}, "width: input should be a valid integer, got True"),
        ({"name": "../other"}, "name: "),
        (
            {"measure": "proximity", "methods": ["stable"], "enough": 0.1},
            'inits must be ["pretrained"] for the measure "proximity", got [\'random\']',
        ),
        ({"measure": "proximity"}, 'enough is missing, which the measure "proximity" needs'),
        ({"scales.smoke.levels": [1.0]}, 'levels is for the measure "proximity", which the suite does not have'),
        ({"scales.smoke.widths": [1, 3]}, "scales.smoke.ranks[1] must be a rank of at most the width 1, got 2"),
        (
            {"scales.smoke.depths": [{"target": 1, "frozen": 1}], "scales.smoke.layers": [2]},
            "scales.smoke.layers[0] must be at most the frozen depth 1, got 2",
        ),
        ({"pretrain": {"level": 0.0}}, "pretrain.level: input should be greater than 0, got 0.0"),
    ],
)
def test_each_fault_says_where_and_what(changes, part):
    assert part in wrong(changes)


@pytest.mark.parametrize("name", suite_names())
def test_the_suites_that_come_along_are_right(name):
    suite = load_suite(name)
    assert suite.name == name
    assert {"smoke", "paper"} <= set(suite.scales)
    paper = suite.scales["paper"]
    assert paper.seeds == [0, 1, 2, 3, 4]
    if name == "glue":
        assert (paper.ranks, len(paper.tasks)) == ([0, 2, 4, 6, 8, 12], 8)
        return
    steps = 20000 if name == "generalization" else 5000
    assert (suite.width, paper.steps, paper.batch, len(paper.lr) * len(paper.weight_decay)) == (16, steps, 256, 12)


def test_an_unknown_suite_names_those_there_are():
    with pytest.raises(SpecError, match=r"bias, .*, fnn, fnn-depths, .*linear, .*, tfn, or .*'fn'"):
        load_suite("fn")


def test_a_suite_of_ones_own(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("name = [")
    with pytest.raises(SpecError, match="TOML file that can be read"):
        load_suite(str(file))
    with pytest.raises(SpecError, match="No such file"):
        load_suite(str(tmp_path / "none.toml"))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="utf-8"):
        load_suite(str(file))
    file.write_text('name = "mine"')
    with pytest.raises(SpecError, match="title is missing"):
        load_suite(str(file))
