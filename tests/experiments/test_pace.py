"""The time left against that of a simulated run, whose end is known."""

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as some

from lorascope.experiments.pace import Pace, Tell

START_UP = 4.0
SLOW = 3.0  # seconds for each unit of effort, which nobody tells


def simulated(efforts, lanes):
    """Names with the times at which they end, cells started in their order as lanes come free."""
    free = [START_UP] * lanes
    ends = {}
    for name, effort in efforts.items():
        ends[name] = heapq.heappop(free) + SLOW * effort
        heapq.heappush(free, ends[name])
    return sorted(ends.items(), key=lambda item: item[1])


def estimates(efforts, lanes, at_once, failing=()):
    """At each cell's end: the estimate, and what is really left."""
    pace = Pace(efforts, now=0.0)
    ends = simulated(efforts, lanes)
    for name, now in ends:
        seconds = None if name in failing else SLOW * efforts[name]
        yield pace.ended(name, seconds, at_once, now), ends[-1][1] - now


@given(some.lists(some.floats(0.01, 10), min_size=1, max_size=12), some.integers(1, 5))
def test_it_is_short_by_less_than_one_cell_and_never_too_long(sizes, lanes):
    efforts = {str(number): size for number, size in enumerate(sizes)}
    for estimate, truth in estimates(efforts, lanes, lanes):
        assert truth - SLOW * max(sizes) - 1e-9 <= estimate <= truth + 1e-9


@pytest.mark.parametrize("lanes", [1, 2, 8])
def test_equal_cells_are_told_exactly(lanes):
    efforts = {str(number): 1.0 for number in range(24)}
    found = list(estimates(efforts, lanes, lanes))
    assert [estimate for estimate, _ in found] == pytest.approx([truth for _, truth in found])
    if lanes == 8:  # what the share of the work that has ended says of the first end
        assert 15 * found[0][1] < (START_UP + SLOW) * 23


def test_a_number_of_lanes_that_nobody_knows_is_seen():
    efforts = {str(number): 1.0 for number in range(60)}
    found = list(estimates(efforts, 4, None))
    assert found[30][0] == pytest.approx(found[30][1], rel=0.3)


def test_cells_without_a_result_say_nothing():
    efforts = {"a": 1.0, "b": 1.0, "c": 1.0}
    found = [estimate for estimate, _ in estimates(efforts, 1, 1, failing=("a", "c"))]
    assert found == [None, pytest.approx(SLOW), 0]


def test_a_cell_that_takes_longer_than_it_should_is_not_negative():
    pace = Pace({"a": 1.0, "b": 1.0, "c": 1.0}, now=0.0)
    assert pace.ended("a", 1.0, 2, now=1.0) == pytest.approx(1)
    assert pace.ended("c", 1.0, 2, now=5.0) == 0


def test_cells_of_an_earlier_run_count_as_done_and_take_no_time():
    told = []
    tell = Tell(lambda *event: told.append(event), 4, {"c": 1.0, "d": 3.0})
    tell.ended("c", 0.5, 1, "the third")
    tell.ended("d", 1.5, 1, "the fourth")
    assert told == [
        (2, 4, 0.0, None, ""),
        (3, 4, 0.25, pytest.approx(1.5), "the third"),
        (4, 4, 1.0, 0.0, "the fourth"),
    ]
