"""The heat map of ranks shows every matrix once, with its number."""

import pytest

from lorascope.errors import SpecError
from lorascope.figures import rank_map

ROWS = [
    {"layer": f"layers.{layer}", "module": module, "rank": rank}
    for layer in range(2)
    for module, rank in (("query", 4 + layer), ("up", None if layer else 0))
]


def test_each_cell_carries_its_rank():
    figure = rank_map(ROWS, "Ranks")
    axis = figure.axes[0]
    cells = {tuple(map(round, text.get_position())): text.get_text() for text in axis.texts}
    assert cells == {(0, 0): "4", (1, 0): "0", (0, 1): "5", (1, 1): ">"}
    assert [label.get_text() for label in axis.get_xticklabels()] == ["query", "up"]
    shown = axis.images[0].get_array()
    assert shown[0, 0] == 4
    assert shown.mask.tolist() == [[False, True], [False, True]]


def test_experts_of_one_module_show_their_largest():
    rows = [{"layer": "layers.0", "module": "up", "rank": rank} for rank in (2, 7, 3)]
    assert [text.get_text() for text in rank_map(rows, "").axes[0].texts] == ["7"]


def test_many_layers_carry_no_numbers():
    rows = [{"layer": f"layers.{i}", "module": "up", "rank": 2} for i in range(60)]
    assert not rank_map(rows, "").axes[0].texts


def test_no_rows():
    with pytest.raises(SpecError, match="at least one row"):
        rank_map([], "")
