"""The suite of real tasks: what it says, and its cells."""

import pytest

from lorascope.errors import SpecError
from lorascope.experiments import Subject, effort, grid, load_suite
from lorascope.experiments.spec import parse_any
from lorascope.records import cell_name

SUBJECT = Subject("tiny", "0f", 32, 2, 4, "gelu", {"sst2": "ab", "mrpc": "cd"})
CONTENT = {
    "name": "glue",
    "title": "Tasks",
    "measure": "glue",
    "scales": {
        "smoke": {"tasks": ["sst2"], "ranks": [0, 2], "steps": 10, "lr": [0.1], "head_lr": [0.1], "full_lr": [0.1]},
    },
}  # fmt: skip


def cells(**changes):
    scale = CONTENT["scales"]["smoke"] | changes
    return grid(parse_any(CONTENT | {"scales": {"smoke": scale}}, "tasks").on(SUBJECT), "smoke")


def test_a_cell_says_what_it_is_run_on_and_no_more_than_it_depends_on():
    found = cells(seeds=[0])
    assert [(cell["init"], cell["method"], cell["ranks"]) for cell in found] == [
        ("pretrained", "gradient", [0, 2]), ("pretrained", "full", [2]), ("random", "gradient", [0, 2]),
    ]  # fmt: skip
    assert all(cell["checkpoint_digest"] == "0f" and cell["rows_digest"] == "ab" for cell in found)
    assert {"lr", "head_lr"} <= set(found[0])
    assert not {"full_lr", "texts"} & set(found[0])
    assert {"full_lr", "texts"} <= set(found[1])
    assert not {"lr", "head_lr"} & set(found[1])
    assert all(effort(cell) > 0 for cell in found)
    assert len({cell_name(cell) for cell in found}) == 3


def test_tasks_may_take_steps_of_their_own():
    found = cells(tasks=["sst2", "mrpc"], seeds=[0], methods=["gradient"], task_steps={"mrpc": 4})
    assert {(cell["task"], cell["steps"]) for cell in found} == {("sst2", 10), ("mrpc", 4)}


def test_a_random_body_may_have_rates_of_its_own():
    found = cells(seeds=[0], methods=["gradient"], random_lr=[0.2, 0.3])
    assert [(cell["init"], cell["lr"]) for cell in found] == [("pretrained", [0.1]), ("random", [0.2, 0.3])]


def test_other_rows_are_other_cells():
    suite = load_suite("glue")
    other = Subject("tiny", "0f", 32, 2, 4, "gelu", {"sst2": "xx"})
    names = [{cell_name(cell) for cell in grid(suite.on(one), "smoke")} for one in (SUBJECT, other)]
    assert names[0].isdisjoint(names[1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": ["sst3"]}, "scales.smoke.tasks[0]: input should be 'cola'"),
        ({"ranks": [-1]}, "scales.smoke.ranks[0]: input should be greater than or equal to 0, got -1"),
        ({"rates": [1]}, "scales.smoke.rates is no key that a suite has"),
        ({"lr": [0.1, 0.1]}, "scales.smoke.lr must not name anything twice"),
    ],
)
def test_every_fault_says_where(changes, said):
    with pytest.raises(SpecError) as caught:
        cells(**changes)
    assert said in str(caught.value)
    assert str(caught.value).startswith("tasks must describe a suite, got 1 fault")
