"""What may be averaged over seeds, and what is no repetition."""

import pytest

from lorascope.records import Measurement, alike, predictions

SPEC = {"task": "sst2", "init": "pretrained", "checkpoint": "a", "checkpoint_digest": "1", "rows_digest": "r"}
SPEC |= {"steps": 100, "batch": 32, "precision": "float32", "search_share": 1.0}


def full(seed, score=0.9, ranks=(2,), **changes):
    spec = {**SPEC, "seed": seed, "method": "full", "full_lr": [1e-4], "texts": 200, "ranks": list(ranks), **changes}
    cell = f"full {seed} {ranks} {changes}"
    metrics = {"dev_score": score}
    return [
        Measurement(spec, cell, "full", None, metrics | {"recommended_rank": 4.0}),
        *(Measurement(spec, cell, "extracted", rank, metrics) for rank in ranks),
    ]


def gradient(seed, score=0.8, **changes):
    spec = {**SPEC, "seed": seed, "method": "gradient", "lr": [1e-3], "head_lr": [1e-2], "ranks": [0, 2], **changes}
    return [Measurement(spec, f"gradient {seed} {changes}", "gradient", rank, {"dev_score": score}) for rank in (0, 2)]


ONE = [*full(0), *full(1), *gradient(0), *gradient(1)]


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpoint_digest": "2"},
        {"checkpoint": "b", "checkpoint_digest": "2"},
        {"rows_digest": "s"},
        {"steps": 200},
        {"precision": "bfloat16"},
        {"search_share": 0.5},
    ],
)
def test_what_differs_in_more_than_the_seed_is_left_out(changes):
    other = [*full(0, 0.1, **changes), *gradient(0, 0.1, **changes)]
    for found in (ONE + other, other + ONE):
        assert alike(found) == ONE
        (told,) = predictions(found)
        assert (told.seeds, told.full, told.head) == (2, 0.9, 0.8)


@pytest.mark.parametrize(
    "other", [full(2, full_lr=[1e-3]), full(2, texts=20), full(2, calibration=10), gradient(2, head_lr=[1e-1])]
)
def test_a_setting_of_one_method_leaves_the_other_methods_alone(other):
    assert alike(other + ONE) == ONE


def test_two_halves_of_two_settings_make_no_whole():
    steps = {"steps": 7}
    found = [*full(0), *full(1), *full(2), *gradient(0, **steps), *gradient(1, **steps)]
    assert alike(found) == [one for one in found if one.spec["method"] == "full"]


def test_each_task_has_a_setting_of_its_own():
    other = [*full(0, task="rte", steps=7, rows_digest="s"), *gradient(0, task="rte", steps=7, rows_digest="s")]
    assert alike(ONE + other) == ONE + other
    # but all of them one checkpoint
    assert alike(ONE + full(0, task="rte", checkpoint_digest="2")) == ONE


def test_cells_of_other_ranks_go_together_and_a_seed_counts_once():
    more = full(0, ranks=(2, 8))
    found = [*full(0), *full(1), *more]
    assert alike(found) == [*full(1), *more]
    (told,) = predictions(found)
    assert (told.seeds, len(told.recommended), sorted(told.extracted)) == (2, 2, [2, 8])


def test_failed_cells_do_not_outvote_others():
    broken = [Measurement({**one.spec, "steps": 7}, one.cell + "x", one.method, one.rank, {}) for one in ONE]
    assert alike([*broken, *full(0)]) == full(0)
