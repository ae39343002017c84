"""Every method tells wrong input apart, says what was required and what came, and leaves the models alone."""

import math

import jaxtyping
import pytest
import torch

import lorascope as ls
from contracts.cases import METHODS, fnn, transformer
from lorascope import construct
from lorascope.errors import RankError, ShapeError, SpecError
from lorascope.models import FNN


@pytest.fixture(autouse=True)
def unchecked_annotations():
    """The annotations forbid some of this input, and where they are checked they would speak first."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


def poisoned(model, value, name):
    with torch.no_grad():
        dict(model.named_parameters())[name].view(-1)[0] = value
    return model


def relu(*sizes):
    return fnn(*sizes)[0]


def tf(*sizes):
    return transformer(*sizes)[0]


NAN, INF = math.nan, math.inf
ROWS = [torch.ones(2, 3, dtype=torch.float64), torch.ones(3, 2, dtype=torch.float64)]
# name: (error, words in this order, frozen, target, arguments)
CASES = {
    "deeper target": (ShapeError, "2 layers.*got 3", lambda: (relu(3, 2, 1), relu(3, 3, 1)), {"rank": 1}),
    "wider target": (ShapeError, "width 3.*got width 4", lambda: (relu(3, 2, 1), relu(4, 1, 1)), {"rank": 1}),
    "frozen of several widths": (
        ShapeError,
        r"square.*\(2, 3\), \(3, 2\)",
        lambda: (FNN.from_weights(ROWS, [torch.ones(2).double(), torch.ones(3).double()]), relu(2, 1, 1)),
        {"rank": 1},
    ),
    "another activation": (
        ShapeError,
        "activation.*'relu'.*'identity'",
        lambda: (relu(3, 2, 1), fnn(3, 1, 1, "identity")[0]),
        {"rank": 1},
    ),
    "no biases": (
        ShapeError,
        "needs biases.*without",
        lambda: (FNN(3, 2, bias=False), relu(3, 1, 1)),
        {"rank": 1},
    ),
    "two kinds": (ShapeError, "one kind.*FNN.*TransformerNetwork", lambda: (relu(3, 1, 1), tf(3, 1, 1)), {"rank": 1}),
    "two kinds turned": (
        ShapeError,
        "one kind.*TransformerNetwork.*FNN",
        lambda: (tf(3, 1, 1), relu(3, 1, 1)),
        {"rank": 1},
    ),
    "no such kind": (
        ShapeError,
        "target must be an FNN or a TransformerNetwork, got Linear",
        lambda: (relu(3, 1, 1), torch.nn.Linear(3, 3)),
        {"rank": 1},
    ),
    "transformer depths": (ShapeError, "one depth.*2 and 1", lambda: (tf(3, 1, 2), tf(3, 1, 1)), {"rank": 1}),
    "deeper transformer": (ShapeError, "depth.*1.*got 2", lambda: (tf(3, 1, 1), tf(3, 1, 2)), {"rank": 1}),
    "wider transformer": (ShapeError, "embed_dim.*3.*got 4", lambda: (tf(3, 1, 1), tf(4, 1, 1)), {"rank": 1}),
    "more heads": (ShapeError, "num_heads.*1.*got 2", lambda: (tf(3, 1, 1), tf(3, 2, 1)), {"rank": 1}),
    "NaN": (
        SpecError,
        "frozen.*finite.*layers.1.weight has 1",
        lambda: (poisoned(relu(3, 2, 1), NAN, "layers.1.weight"), relu(3, 1, 1)),
        {"rank": 1},
    ),
    "infinite": (
        SpecError,
        "target.*finite.*output.weight has 1",
        lambda: (tf(3, 1, 1), poisoned(tf(3, 1, 1), -INF, "output.weight")),
        {"rank": 1},
    ),
    "infinite bias": (
        SpecError,
        "target.*finite.*layers.0.bias has 1",
        lambda: (relu(3, 2, 1), poisoned(relu(3, 1, 1), INF, "layers.0.bias")),
        {"rank": 1},
    ),
    **{
        f"rank {value!r}": (RankError, f"rank must be an integer of at least 0, got {value!r}", None, {"rank": value})
        for value in (-1, 2.0, True, "3")
    },
    **{
        f"a rank of ranks {value!r}": (
            RankError,
            f"layers.1.weight must be an integer of at least 0, got {value!r}",
            None,
            {"ranks": {"layers.0.weight": 1, "layers.1.weight": value}},
        )
        for value in (-1, 1.5, False, None)
    },
    "neither": (RankError, "either rank.*or ranks.*got neither", None, {}),
    "both": (RankError, "either rank.*or ranks.*got both", None, {"rank": 1, "ranks": {"layers.0.weight": 1}}),
    "unknown name": (RankError, r"layers\.7.*it has.*layers\.0\.weight", None, {"ranks": {"layers.7.weight": 1}}),
    "a bias has no rank": (
        RankError,
        r"layers\.0\.bias.*it has.*layers\.0\.weight",
        None,
        {"ranks": {"layers.0.bias": 1}},
    ),
    "too few groups": (
        ShapeError,
        r"1 groups.*0 to 1, got \[\[0\], \[1\]\]",
        None,
        {"partition": [[0], [1]], "rank": 1},
    ),
    "a layer left out": (ShapeError, r"0 to 1, got \[\[1\]\]", None, {"partition": [[1]], "rank": 1}),
    "out of order": (ShapeError, r"0 to 1, got \[\[1, 0\]\]", None, {"partition": [[1, 0]], "rank": 1}),
    "counted from 1": (ShapeError, r"0 to 1, got \[\[1, 2\]\]", None, {"partition": [[1, 2]], "rank": 1}),
    "an empty group": (
        ShapeError,
        r"2 groups.*0 to 1, got \[\[\], \[0, 1\]\]",
        lambda: (relu(3, 2, 1), relu(3, 2, 1)),
        {"partition": [[], [0, 1]], "rank": 1},
    ),
    "not nested": (ShapeError, r"groups.*0 to 1, got \[0, 1\]", None, {"partition": [0, 1], "rank": 1}),
    "partition of a transformer": (
        ShapeError,
        "partition is for ReLU networks",
        lambda: transformer(3, 1, 1),
        {"partition": [[0]], "rank": 1},
    ),
    "partition of a linear network": (
        ShapeError,
        "partition is for ReLU networks",
        lambda: fnn(3, 2, 1, "identity"),
        {"partition": [[0, 1]], "rank": 1},
    ),
    "box of another length": (ShapeError, "3 coordinates.*got 2", None, {"domain": ls.Box([0, 0], [1, 1]), "rank": 1}),
    "box of another length for tokens": (
        ShapeError,
        "3 coordinates.*got 4",
        lambda: transformer(3, 1, 1),
        {"domain": ls.Box([0] * 4, [1] * 4), "rank": 1},
    ),
    "no domain": (SpecError, "domain.*Ball.*Box.*3.0", None, {"domain": 3.0, "rank": 1}),
    "samples of another width": (
        ShapeError,
        r"\(number, 3\).*\(5, 2\)",
        None,
        {"samples": torch.ones(5, 2), "rank": 1},
    ),
    "samples without rows": (ShapeError, r"\(number, 3\).*\(3,\)", None, {"samples": torch.ones(3), "rank": 1}),
    "samples with one axis more": (
        ShapeError,
        r"\(number, 3\).*\(2, 4, 3\)",
        None,
        {"samples": torch.ones(2, 4, 3), "rank": 1},
    ),
    "no samples": (SpecError, r"at least one.*\(0, 3\)", None, {"samples": torch.ones(0, 3), "rank": 1}),
    "samples that are not finite": (SpecError, "finite", None, {"samples": torch.full((2, 3), NAN), "rank": 1}),
    "samples twice": (
        SpecError,
        "samples.*or sampler.*got both",
        None,
        {"samples": torch.ones(2, 3), "sampler": lambda n: torch.ones(n, 3), "rank": 1},
    ),
    "a sampler of another width": (
        ShapeError,
        r"\(number, 3\).*\(4096, 4\)",
        None,
        {"sampler": lambda n: torch.ones(n, 4), "rank": 1},
    ),
    "samples of another width for tokens": (
        ShapeError,
        r"3.*\(5, 2\)",
        lambda: transformer(3, 1, 1),
        {"samples": torch.ones(5, 2), "rank": 1},
    ),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_quoted_and_changes_nothing(method, case):
    error, words, build, arguments = CASES[case]
    pair = fnn(3, 2, 1) if build is None else build()
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in pair]
    with pytest.raises(error, match=words):
        METHODS[method](*pair, **arguments)
    for model, state in zip(pair, before, strict=True):
        assert all(torch.equal(value, state[name]) or value.isnan().any() for name, value in model.state_dict().items())


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][2] and set(CASES[case][3]) == {"rank"}])
def test_rank_needed_refuses_the_same_pairs(case):
    error, words, build, _ = CASES[case]
    with pytest.raises(error, match=words):
        ls.rank_needed(*build())


DOMAINS = {
    "empty box": (SpecError, "low 2 is above high 1 at coordinate 1", lambda: ls.Box([0.0, 2.0], [1.0, 1.0])),
    "negative radius": (SpecError, "radius of at least 0, got -1", lambda: ls.Ball(-1)),
    "radius NaN": (SpecError, "finite radius.*got nan", lambda: ls.Ball(NAN)),
    "radius infinite": (SpecError, "finite radius.*got inf", lambda: ls.Ball(INF)),
    "infinite box": (SpecError, "finite bounds", lambda: ls.Box([0.0, -INF], [1.0, 1.0])),
    "NaN box": (SpecError, "finite bounds", lambda: ls.Box([0.0], [NAN])),
    "two lengths": (ShapeError, r"one length.*\(1,\) and \(2,\)", lambda: ls.Box([0.0], [1.0, 2.0])),
    "no length": (ShapeError, r"one length.*\(0,\)", lambda: ls.Box([], [])),
    "a matrix": (ShapeError, r"one length.*\(1, 2\)", lambda: ls.Box(torch.zeros(1, 2), torch.ones(1, 2))),
}


@pytest.mark.parametrize(("error", "words", "call"), DOMAINS.values(), ids=DOMAINS)
def test_a_domain_that_says_nothing_is_refused(error, words, call):
    with pytest.raises(error, match=words):
        call()


def test_the_same_boxes_are_equal_and_others_are_not():
    assert ls.Box([0.0, 1.0], [1.0, 2.0]) == ls.Box([0.0, 1.0], [1.0, 2.0])
    assert ls.Box([0.0, 1.0], [1.0, 2.0]) != ls.Box([0.0, 1.0], [1.0, 3.0])
    assert ls.Ball(1.0) == ls.Ball(1.0) != ls.Ball(2.0)


@pytest.mark.parametrize("seconds", [-1, float("nan"), "3", True])
@pytest.mark.parametrize("method", [ls.adapt, construct.stable])
def test_seconds_that_are_no_time(method, seconds):
    with pytest.raises(SpecError, match="seconds"):
        method(FNN(3, 2), FNN(3, 1), 1, seconds=seconds)


def test_partitions_name_layers_by_integers():
    with pytest.raises(ShapeError, match="integers"):
        construct.stable(FNN(3, 2), FNN(3, 1), 1, partition=[[0.0, 1.0]])
