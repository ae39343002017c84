"""The digits experiment, small: one shallow frozen network, few epochs."""

import pytest
import torch

from lorascope.errors import SpecError
from lorascope.experiments import DigitsRow, DigitsSettings, load, run_digits, train_target

SMALL = DigitsSettings(ranks={4: (8, 40)}, epochs=12)


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def result(told):
    return run_digits(SMALL, lambda *event: told.append(event))


def test_the_images_are_split_without_overlap_and_lie_in_the_box(generator):
    data = load(450, generator)
    assert data.train.shape == (1347, 64)
    assert data.test.shape == (450, 64)
    assert float(data.train.min()) == float(data.test.min()) == 0
    assert float(data.train.max()) == float(data.test.max()) == 1
    assert len(torch.cat([data.train, data.test]).unique(dim=0)) == 1797
    assert data.test_labels.unique().tolist() == list(range(10))


@pytest.mark.parametrize("number", [0, 1797])
def test_there_must_be_images_on_both_sides(generator, number):
    with pytest.raises(SpecError, match="between 1 and 1796"):
        load(number, generator)


def test_training_depends_on_the_generator_alone():
    data = load(450, torch.Generator().manual_seed(1))
    settings = DigitsSettings(epochs=1)
    first, again = (train_target(data, settings, torch.Generator().manual_seed(2)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_no_output_is_dead():
    for seed in range(3):
        source = torch.Generator().manual_seed(seed)
        data = load(450, source)
        target = train_target(data, DigitsSettings(epochs=6), source)
        assert (target(data.train)[:, :10].amax(dim=0) > 0).all()
        assert (target(data.test)[:, :10].argmax(dim=1) == data.test_labels).double().mean() > 0.9


def test_rows_are_the_ranks_below_and_at_and_above_the_threshold(result):
    assert [(row["depth"], row["rank"]) for row in result.rows] == [(4, 8), (4, 32), (4, 33)]
    assert all(row.keys() == DigitsRow.__required_keys__ for row in result.rows)
    assert (result.train_images, result.test_images) == (1347, 450)


def test_at_the_threshold_the_network_is_the_target(result):
    for row in result.rows[1:]:
        assert row["exact"]
        assert row["agreement"] == 1
        assert row["accuracy"] == row["target_accuracy"] > 0.9
        assert row["max_output_difference"] <= row["max_error"] < 1e-9


def test_below_it_is_not_and_the_bounds_hold(result):
    below = result.rows[0]
    assert not below["exact"]
    assert below["relative_error"] > 1e-3
    for row in result.rows:
        assert row["mean_error"] <= row["max_error"] <= row["error_bound"]
        assert row["train_mean_error"] <= row["expected_error_bound"]


def test_progress_counts_to_the_end(result, told):
    assert [event[:3] for event in told if event[0] == "train"] == [("train", n, 12) for n in range(1, 13)]
    assert [event[:3] for event in told if event[0] == "adapt"] == [("adapt", n, 3) for n in range(4)]
    assert "depth 4, rank 8" in [event[3] for event in told]
    assert len(result.rows) == 3
