"""Every oracle must reject a wrong answer."""

import numpy as np
import pytest

from reference import merging, networks, partitions, ranks


def test_rank_oracle_rejects_a_wrong_rank():
    frozen, target = [np.eye(3, dtype=int)] * 2, [np.diag([1, 2, 3])]
    ranks.assert_difference_rank(2, frozen, target)
    for wrong in (1, 3):
        with pytest.raises(AssertionError, match="by elimination"):
            ranks.assert_difference_rank(wrong, frozen, target)


def test_integer_rank_of_known_matrices():
    assert [ranks.integer_rank(m) for m in ([[0]], [[1, 2], [2, 4]], [[0, 1], [1, 0]], [[0, 0, 1], [0, 0, 2]])] == [
        0,
        1,
        2,
        1,
    ]


def test_partition_oracles_reject_worse_partitions():
    gaps = {(0, 0, 1): 4, (0, 0, 2): 4, (1, 1, 3): 1, (1, 2, 3): 1}
    gap = lambda *group: gaps[group]  # noqa: E731
    cost = lambda i, a, b: -(-gaps[i, a, b] // (b - a))  # noqa: E731
    assert len(list(partitions.all_partitions(5, 3))) == 6
    partitions.assert_best(2, ((0, 1), (2,)), cost, gap, 3, 2)
    for value, partition in ((4, ((0,), (1, 2))), (1, ((0, 1), (2,))), (2, ((0, 1, 2),))):
        with pytest.raises(AssertionError):
            partitions.assert_best(value, partition, cost, gap, 3, 2)
    tied = {(0, 0, 1): 1, (0, 0, 2): 2, (1, 1, 3): 1, (1, 2, 3): 1}
    with pytest.raises(AssertionError, match="beaten"):
        partitions.assert_best(1, ((0, 1), (2,)), lambda *_: 1, lambda *group: tied[group], 3, 2)
    partitions.assert_least_total(5, ((0, 1), (2,)), gap, 3, 2, cap=2)
    for value, partition in ((5, ((0,), (1, 2))), (4, ((0, 1), (2,)))):
        with pytest.raises(AssertionError):
            partitions.assert_least_total(value, partition, gap, 3, 2, cap=2)


def test_network_oracles_reject_too_small_a_number():
    rng = np.random.default_rng(0)
    with pytest.raises(AssertionError, match="undercuts"):
        networks.assert_not_undercut(3.0, [np.zeros((2, 2))], np.eye(2), [1], 200, rng)
    target, frozen, zero = [2 * np.eye(2)], [np.eye(2)], [np.zeros(2)]
    networks.assert_mean_error_within(1.0, frozen, target, zero, np.eye(2))
    with pytest.raises(AssertionError, match="exceeds"):
        networks.assert_mean_error_within(0.99, frozen, target, zero, np.eye(2))


def test_paper_split_moves_each_layer_by_its_rank_and_truncates_when_short():
    frozen, target = [np.eye(3), np.eye(3)], np.diag([2.0, 4.0, 8.0])
    adapted = networks.paper_split(frozen, target, [1, 1])
    assert [np.linalg.matrix_rank(a - w) for a, w in zip(adapted, frozen, strict=True)] == [1, 1]
    np.testing.assert_allclose(networks.chain(adapted), np.diag([1.0, 4.0, 8.0]), atol=1e-14)


def test_witness_oracle_rejects_each_fault():
    eye, zero = np.eye(2), np.zeros(2)
    inside = lambda point: bool((np.abs(point) <= 1).all())  # noqa: E731
    good = (np.array([-0.2, 0.5]), np.array([-0.4, 0.5]))
    merging.assert_witness(good, eye, zero, -eye, zero, inside)
    faults = {
        "outside": (np.array([-2.0, 0.5]), good[1]),
        "first layer": (np.array([0.2, 0.5]), good[1]),
        "target": (good[0], good[0]),
    }
    for words, pair in faults.items():
        with pytest.raises(AssertionError, match=words):
            merging.assert_witness(pair, eye, zero, -eye, zero, inside)


def test_clearances_of_known_half_planes():
    eye, zero, one = np.eye(2), np.zeros(2), np.ones(2)
    assert merging.clearance_in_box(eye, zero, -eye, zero, 0, 0, -one, one) == pytest.approx(1.0)
    assert merging.clearance_in_box(eye, zero, eye, zero, 0, 0, -one, one) == pytest.approx(0.0, abs=1e-12)
    assert merging.clearance_in_ball(eye, zero, -eye, zero, 0, 1, 1.0) == pytest.approx(0.5**0.5, abs=1e-3)
    assert merging.clearance_in_ball(eye, 2 * one, -eye, zero, 0, 0, 1.0) < 0
    assert len(merging.clearances(eye, -eye, lambda *_: 0.0)) == 2  # only the unit's own output moves
