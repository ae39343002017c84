"""Wrong input is told apart and quoted."""

import jaxtyping
import pytest
import torch

from lorascope.errors import RankError, ShapeError, SpecError
from lorascope.models import TransformerNetwork
from lorascope.theory import (
    bounds,
    fnn,
    last_layers,
    linear,
    parameters,
    partition,
    transformer,
    transformer_bounds,
)

eye, zero = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
wide = torch.ones(2, 3, dtype=torch.float64)
net = TransformerNetwork(3, 1, 1)
one_gap = lambda *_: 1  # noqa: E731
box = {"centre": zero, "half_width": zero + 1, "shape": "box"}

CASES = {
    "a bound's fractional rank": (
        RankError,
        r"got 0\.5",
        lambda: transformer_bounds.transformer_bound(net, net, 0.5, 1.0),
    ),
    "no layer": (ShapeError, r"frozen.*\[\]", lambda: linear.difference([], [eye])),
    "no chain": (ShapeError, r"\(2, 3\), \(2, 3\)", lambda: linear.difference([wide, wide], [eye])),
    "two shapes": (ShapeError, r"\(3, 3\).*\(2, 3\)", lambda: linear.least_error([wide], eye, 1)),
    "obstruction shapes": (ShapeError, r"\(2, 3\)", lambda: linear.rank_obstruction([wide], eye, 1)),
    "negative rank": (RankError, "-1", lambda: linear.least_error([eye], eye, -1)),
    "a fractional rank": (RankError, "1.5", lambda: linear.least_error([eye], eye, [1.5])),
    "too few ranks": (RankError, r"2 layers, got \[1\]", lambda: linear.least_error([eye, eye], eye, [1])),
    "no group": (ShapeError, "3 frozen layers.*got 0", lambda: partition.uniform_partition(3, 0)),
    "too many groups": (ShapeError, "3 frozen layers.*got 4", lambda: partition.uniform_partition(3, 4)),
    "search groups": (ShapeError, "got 4", lambda: partition.best_partition(one_gap, one_gap, 3, 4)),
    "total groups": (ShapeError, "got 0", lambda: partition.least_total(one_gap, 3, 0)),
    "cap": (RankError, "<= 0; the least is 1", lambda: partition.least_total(one_gap, 2, 1, cap=0)),
    "no layer to spread over": (ShapeError, "got 0", lambda: partition.spread(2, 0)),
    "negative total": (RankError, "-2", lambda: partition.spread(-2, 3)),
    "deeper target": (ShapeError, "got 2", lambda: fnn.theorem3_rank([eye], [eye, eye])),
    "no width": (ShapeError, "got 0", lambda: fnn.corollary4_rank(0, 2, 1)),
    "target width": (ShapeError, r"\(2, 3\)", lambda: fnn.assumption1([eye], [wide], 1)),
    "bias": (ShapeError, r"\[\(2,\)\]", lambda: bounds.theorem5_bound([eye], [eye], [zero[:2]], 1, eye)),
    "bias count": (ShapeError, "got", lambda: bounds.sharp_bound([eye], [eye], [], 1, eye)),
    "bound rank": (RankError, "-2", lambda: bounds.theorem5_bound_quoted([eye], [eye], [zero], -2, eye)),
    "two networks": (
        ShapeError,
        "depth 1, 2 heads, width 3 and target depth 2",
        lambda: transformer.theorem7_gaps(TransformerNetwork(3, 2, 1), TransformerNetwork(3, 2, 2)),
    ),
    "not square": (ShapeError, r"\(2, 3\)", lambda: last_layers.constant_direction(wide)),
    "no such unit": (ShapeError, "unit 3", lambda: last_layers.constant_direction(eye, 3)),
    "sizes": (ShapeError, r"\(2, 3\)", lambda: last_layers.tuning_fails(eye, zero, wide, zero, **box)),
    "flat": (SpecError, "0.0", lambda: last_layers.tuning_fails(eye, zero, eye, zero, **box | {"half_width": zero})),
    "shape": (SpecError, "cone", lambda: last_layers.tuning_fails(eye, zero, eye, zero, **box | {"shape": "cone"})),
    "count width": (ShapeError, "got 0 and 1", lambda: parameters.lora_parameters(0, [1])),
    "count layers": (ShapeError, "got 4 and 0", lambda: parameters.lora_parameters(4, [])),
    "count rank": (RankError, "-1", lambda: parameters.lora_parameters(4, [2, -1])),
    "tuned layers": (ShapeError, "-1", lambda: parameters.last_layers_parameters(4, -1)),
    "heads": (ShapeError, "4, 0, 1", lambda: parameters.transformer_parameters(4, 0, 1, 1)),
    "transformer rank": (RankError, "-1", lambda: parameters.transformer_parameters(4, 1, 1, -1)),
}


@pytest.fixture(autouse=True)
def unchecked_annotations():
    """The annotations forbid some of this input, and where they are checked they would speak first."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.mark.parametrize(("error", "words", "call"), CASES.values(), ids=CASES)
def test_wrong_input_is_quoted(error, words, call):
    with pytest.raises(error, match=words):
        call()
