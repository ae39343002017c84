"""The CSV beside a picture holds the medians that the rows have."""

import csv
import io
import json
import math
import re

import numpy as np
import pytest

from figures.rows import GLUE, every, table
from lorascope.figures import FIGURES

ROWS = every()
NAMES = {
    "gradient": "gradient (Adam LoRA)",
    "paper": "the paper's construction",
    "stable": "stable (ours)",
    "refined": "refined (ours)",
    "last-layers": "last layers tuned",
    "full": "all weights tuned",
    "biases": "biases alone tuned",
}


def written(name, rows=None):
    text = FIGURES[name].draw(table(ROWS[name] if rows is None else rows)).points
    lines = list(csv.DictReader(io.StringIO(text)))
    assert list(lines[0]) == ["figure", "panel", "line", "x", "y", "low", "high", "seeds", "scale"]
    assert {(line["figure"], line["scale"]) for line in lines} == {(name, "smoke")}
    return lines


def frozen(of):
    return f"{of['init']} frozen network"


def pair(of):
    layers = f"{of['target_depth']} layer{'s' if of['target_depth'] > 1 else ''} from {of['frozen_depth']}"
    return f"depth {of['target_depth']}, {of['init']}" if of["model"] == "transformer" else f"{layers}, {of['init']}"


def expected(name, metric, panel, line, place=lambda _of, rank, _metrics: rank):
    """Medians, extremes and numbers of seeds, by plain loops over the rows."""
    others = {}
    for row in ROWS[name]:
        others.setdefault((row["cell"], row["rank"]), {})[row["metric"]] = row["value"]
    values = {}
    for row in ROWS[name]:
        if row["metric"] == metric:
            of = json.loads(row["spec"])
            x = place(of, row["rank"], others[row["cell"], row["rank"]])
            values.setdefault((panel(of), line(of, row["rank"]), float(x)), []).append(row["value"])
    return {key: (np.median(some), min(some), max(some), len(some)) for key, some in values.items()}


def found(rows, lines=None):
    numbers = {}
    for row in rows:
        if lines is None or row["line"] in lines:
            key = row["panel"], row["line"], float(row["x"])
            assert key not in numbers, "a point is there twice"
            numbers[key] = (*(float(row[column]) for column in ("y", "low", "high")), int(row["seeds"]))
    return numbers


def same(left, right):
    assert left.keys() == right.keys()
    for key, numbers in left.items():
        assert numbers == pytest.approx(right[key], rel=1e-12), key


def method(of, _rank):
    return NAMES[of["method"]]


def all_parameters(_of, _rank, metrics):
    return metrics["parameters"] + metrics.get("bias_parameters", 0)


@pytest.mark.parametrize(("name", "panel"), [("linear", frozen), ("fnn", frozen), ("fnn-depths", pair), ("tfn", pair)])
def test_errors_against_rank(name, panel):
    same(found(written(name)), expected(name, "test_mse", panel, method))


def test_errors_against_trained_weights():
    parameters = expected("final-layers", "test_mse", frozen, method, lambda _of, _rank, metrics: metrics["parameters"])
    same(found(written("final-layers")), parameters)
    same(found(written("methods")), expected("methods", "test_mse", pair, method, all_parameters))


def test_scores_of_tasks():
    names = {"sst2": "SST-2", "mrpc": "MRPC", "rte": "RTE"}
    lines = found(written("glue"))
    assert {key[0] for key in lines} == set(names.values())
    for task, head in GLUE.items():
        gain = 0.01 if task == "rte" else 0.1
        panel = names[task]
        whole = (head + gain + 0.001, head + gain, head + gain + 0.002, 3)
        ends = {x: lines[panel, "pretrained, all weights tuned", x] for x in (0, 8)}
        assert all(one == pytest.approx(whole) for one in ends.values())
        assert lines[panel, "pretrained, trained LoRA", 2][0] == pytest.approx(head + gain / 2 + 0.001)
        assert lines[panel, "random, trained LoRA", 8][0] == pytest.approx(head + gain + 0.001 - 0.2)
        assert lines[panel, "pretrained, extracted from all weights tuned", 8][0] == pytest.approx(
            head + 0.9 * gain + 0.001
        )


def test_predicted_and_trained_ranks():
    numbers = {
        (key[1].partition(": least")[0], key[2]): value for key, value in found(written("glue-prediction")).items()
    }
    for place in (0, 2):  # mrpc and sst2
        at = {line: value for (line, x), value in numbers.items() if x == place}
        assert at["recommended by the report on texts"] == (5.0, 4.0, 6.0, 3)
        assert at["trained LoRA"] == (8.0, 8.0, 8.0, 3)
        assert at["extracted from all weights tuned"] == (math.inf, math.inf, math.inf, 3)
        assert at["extracted, weighted by texts"] == (8.0, 8.0, 8.0, 3)
    # rte, between them, gains too little to say anything
    assert {x for _, x in numbers} == {0.0, 2.0}
    axis = FIGURES["glue-prediction"].draw(table(ROWS["glue"])).figure.axes[0]
    assert "no gain" in " ".join(one.get_text() for one in axis.get_xticklabels())
    # what says the same rank of the same task stands side by side, nearest to that task
    drawn = [float(x) for line in axis.lines for x in line.get_xdata() if math.isfinite(x)]
    assert len(drawn) == len(set(drawn)) == 8
    assert [sum(abs(x - place) < 0.5 for x in drawn) for place in (0, 1, 2)] == [4, 0, 4]


def test_biases():
    def line(of, _rank):
        return f"{NAMES['gradient']}, biases {'tuned' if of['tune_bias'] else 'fixed'}"

    same(found(written("bias")), expected("bias", "test_mse", frozen, line, all_parameters))


def test_allocations_stand_in_order_of_their_slopes():
    def slope(of, _rank, _metrics):
        return (of["allocation"][3] - of["allocation"][0]) / 3

    rows = written("rank-allocation")
    same(found(rows), expected("rank-allocation", "test_mse", frozen, method, slope))
    assert [float(row["x"]) for row in rows[:5]] == pytest.approx([-2, -4 / 3, 0, 4 / 3, 2])


def test_depths_by_rank_and_ranks_by_depth():
    rows = written("depth")
    by_rank = expected(
        "depth", "test_mse", lambda _: "some depths, against rank", lambda of, _: f"{of['frozen_depth']} layers"
    )
    by_depth = expected("depth", "test_mse", lambda _: "some ranks, against depth", lambda _, rank: f"rank {rank}",
                        lambda of, *_: of["frozen_depth"])  # fmt: skip
    shown = {key: value for key, value in by_rank.items() if key[1] in {f"{depth} layers" for depth in (2, 4, 8, 14)}}
    same(found(rows), shown | by_depth)


@pytest.mark.parametrize("name", ["classification", "binary"])
def test_accuracy_and_divergence(name):
    rows = written(name)
    half = len(rows) // 2
    same(found(rows[:half]), expected(name, "test_accuracy", pair, method))
    same(found(rows[half:]), expected(name, "test_kl", pair, method))


def test_shifted_inputs():
    rows = written("distribution-shift")
    half = len(rows) // 2
    for part, metric, task in ((rows[:half], "test_mse", "regression"), (rows[half:], "test_accuracy", "binary")):

        def panel(of, task=task):
            return pair(of) if of["task"] == task else None

        both = expected("distribution-shift", metric, panel, method)
        both |= expected("distribution-shift", f"{metric}_shifted", panel, lambda *of: f"{method(*of)}, shifted inputs")
        same(found(part), {key: value for key, value in both.items() if key[0]})


def test_training_and_test_loss():
    both = expected("generalization", "train_mse", pair, lambda *_: "training loss")
    same(found(written("generalization")), both | expected("generalization", "test_mse", pair, lambda *_: "test loss"))


def test_curves_without_their_step_zero():
    every_step = {}
    for metric in {row["metric"] for row in ROWS["convergence"]}:
        step = re.fullmatch(r"curve_mse@(\d+)", metric)
        if step and step[1] != "0":
            every_step |= expected("convergence", metric, pair, lambda _, rank: f"rank {rank}",
                                   lambda *_, at=float(step[1]): at)  # fmt: skip
    assert every_step
    same(found(written("convergence")), every_step)


def test_starts_and_the_construction_before_any_step():
    names = {
        "zero": "from zero, as LoRA starts",
        "random": "from random adapters",
        "constructed": "from the construction",
    }
    lines = expected("optimization-gap", "test_mse", pair, lambda of, _: names[of["start"]])
    before = expected("optimization-gap", "start_mse", pair, lambda of, _: of["start"])
    before = {(key[0], "the construction, before any step", key[2]): value for key, value in before.items()
              if key[1] == "constructed"}  # fmt: skip
    same(found(written("optimization-gap")), lines | before)


def test_certificates():
    lines = {
        "error_bound": "largest error: certified for every input",
        "attacked_error": "largest error: found by ascent on the input",
        "largest_error": "largest error: of the test inputs",
        "expected_error_bound": "mean error: certified",
        "mean_error": "mean error: of the test inputs",
    }
    points = {}
    for metric, line in lines.items():
        points |= expected(
            "certificates", metric, lambda of: f"{NAMES[of['method']]}: {pair(of)}", lambda *_, line=line: line
        )
    same(found(written("certificates")), points)


def test_exactness_by_layers_and_format():
    def panel(of):
        return f"{'ReLU networks' if of['model'] == 'fnn' else 'transformers'}, {of['dtype']}"

    def at(of, *_):
        return of["frozen_depth"] / of["target_depth"] if of["model"] == "fnn" else of["target_depth"]

    rows = written("exactness")
    half = len(rows) // 2
    same(found(rows[:half]), expected("exactness", "relative_error", panel, method, at))
    same(found(rows[half:]), expected("exactness", "largest_update", panel, method, at))


def test_distances_and_the_ranks_that_are_enough():
    distances = {}
    for row in ROWS["proximity"]:
        if row["metric"] == "frozen_mse":
            distances.setdefault(json.loads(row["spec"])["pretrain"]["level"], []).append(row["value"])

    def place(of, *_):
        return np.median(distances[of["pretrain"]["level"]])

    def enough(of, _rank):
        return f"rank enough: {method(of, None)}"

    points = expected("proximity", "test_mse", lambda of: f"{method(of, None)}, by rank",
                      lambda _, rank: f"rank {rank}", place)  # fmt: skip
    points |= expected("proximity", "rank_enough", lambda _: "rank that it takes", enough, place)
    needed = expected(
        "proximity", "rank_needed", lambda _: "rank that it takes", lambda *_: "rank for exactness", place
    )
    assert {numbers[3] for numbers in needed.values()} == {6}  # both methods', of the same three networks
    same(found(written("proximity")), points | {key: (*numbers[:3], 3) for key, numbers in needed.items()})


def test_that_check_would_notice_another_median():
    wrong = [
        row | {"value": row["value"] * 1.01} if row["metric"] == "test_mse" and row["rank"] == 2 else row
        for row in ROWS["fnn"]
    ]
    with pytest.raises(AssertionError):
        same(found(written("fnn", wrong)), expected("fnn", "test_mse", frozen, method))
