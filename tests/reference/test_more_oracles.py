"""The oracles of models, low-rank matrices and certificates reject wrong answers too."""

import numpy as np
import pytest
import torch

import lorascope as ls
from lorascope.models import TransformerNetwork
from reference import attack, forward, lowrank
from reference.cases import network

BOX = ls.Box([-1.0, 2.0], [3.0, 2.5])


@pytest.mark.parametrize(("domain", "supremum"), [(ls.Ball(3.0), 3.0), (BOX, (9 + 6.25) ** 0.5)])
def test_the_attack_finds_a_known_supremum_and_rejects_any_smaller_bound(domain, supremum):
    identity = network([np.eye(2)], activation="identity")
    zero = network([np.zeros((2, 2))], activation="identity")
    worst = attack.worst_found(identity, zero, domain, 2)
    assert supremum * (1 - 1e-5) <= worst <= supremum
    attack.assert_bound_holds(supremum, identity, zero, domain, 2)
    with pytest.raises(AssertionError, match="the bound is"):
        attack.assert_bound_holds(0.999 * supremum, identity, zero, domain, 2)


def test_the_attack_climbs_where_random_inputs_do_not_reach():
    rng = np.random.default_rng(0)
    spike = np.outer(rng.standard_normal(30), rng.standard_normal(30))
    model, zero = (network([matrix], activation="identity") for matrix in (spike, 0 * spike))
    random = float(attack.errors(model, zero, attack.inputs_of(ls.Ball(1.0), 30, 64, 0)).detach().max())
    worst = attack.worst_found(model, zero, ls.Ball(1.0), 30)
    assert random < 0.8 * np.linalg.norm(spike, 2)
    assert worst > 0.999 * np.linalg.norm(spike, 2)


def test_the_attack_sees_one_bad_token_and_outputs_that_should_be_zero():
    generator = torch.Generator().manual_seed(0)
    target = TransformerNetwork(2, 1, 1, generator=generator)
    other = TransformerNetwork(2, 1, 1, generator=generator)
    other.load_state_dict(target.state_dict())
    attack.assert_bound_holds(0.0, other, target, ls.Ball(1.0), 2, tokens=3)
    with torch.no_grad():
        other.output.weight[1, 0] += 0.1
    with pytest.raises(AssertionError, match="the bound is"):
        attack.assert_bound_holds(1e-6, other, target, ls.Ball(1.0), 2, tokens=3)
    wide, narrow = (network([np.eye(n)], [np.ones(n)], activation="identity") for n in (3, 2))
    assert attack.worst_found(wide, narrow, ls.Ball(1.0), 2) == pytest.approx(1.0)  # the third output is 1, not 0


@pytest.mark.parametrize("domain", [ls.Ball(2.0), BOX])
def test_attacking_inputs_stay_in_the_domain(domain):
    points = attack.inputs_of(domain, 2, 200, 1)
    far = attack.project(100 * points, domain, 2)
    for found in (points, far):
        if isinstance(domain, ls.Ball):
            assert found.norm(dim=1).max() <= domain.radius
        else:
            assert ((found >= domain.low) & (found <= domain.high)).all()
    assert len(torch.unique(points[:, 0])) > 50


def test_low_rank_oracles_reject_worse_factors_and_too_many_columns():
    matrix, moment = np.diag([3.0, 2.0, 1.0]), np.diag([0.01, 1.0, 1.0])
    first, second = np.eye(3)[:, :1], np.eye(3)[:, 1:2]
    lowrank.assert_best(3 * first, first.T, matrix, 1)
    lowrank.assert_best(2 * second, second.T, matrix, 1, moment)
    for wrong in ((2 * second, second.T, matrix, 1), (3 * first, first.T, matrix, 1, moment)):
        with pytest.raises(AssertionError, match="least"):
            lowrank.assert_best(*wrong)
    with pytest.raises(AssertionError, match="columns"):
        lowrank.assert_best(matrix, np.eye(3), matrix, 2)


def test_update_oracle_rejects_a_wrong_delta_and_a_hidden_rank():
    before, delta = np.eye(3), np.diag([1.0, 0.0, 0.0])
    lowrank.assert_update(before, before + delta, delta, 1, 1e-16)
    with pytest.raises(AssertionError, match="off B @ A"):
        lowrank.assert_update(before, before + 1.001 * delta, delta, 1, 1e-16)
    with pytest.raises(AssertionError, match="beyond rank 0"):
        lowrank.assert_update(before, before + delta, delta, 0, 1e-16)
    with pytest.raises(AssertionError, match="beyond rank 1"):
        lowrank.assert_update(before, 2 * before, before, 1, 1e-16)


def test_forward_oracles_of_small_networks_by_hand():
    weights, biases = [np.array([[1.0, -1.0]]), np.array([[2.0]])], [np.array([0.5]), np.array([-1.0])]
    assert forward.fnn([1.0, 0.0], weights, biases) == pytest.approx([2.0])  # 1.5 -> 2
    assert forward.fnn([0.0, 1.0], weights, biases) == pytest.approx([0.0])  # -0.5 -> 0 -> -1 -> 0
    assert forward.fnn([0.0, 1.0], weights, biases, "identity") == pytest.approx([-2.0])
    one = np.eye(1)
    block = {"Q": [0 * one], "K": [one], "V": [one], "O": [one], "W1": one, "b1": np.zeros(1), "W2": one, "b2": one[0]}
    # equal scores: the mean of the tokens, plus 1, times 3
    np.testing.assert_allclose(forward.transformer(np.array([[1.0, 3.0]]), [block], 3 * one), [[9.0, 9.0]])
    # scores by column: token j attends with exp(z_i z_j)
    np.testing.assert_allclose(
        forward.softmax_columns(np.array([[0.0, np.log(3.0)], [0.0, 0.0]])), [[0.5, 0.75], [0.5, 0.25]]
    )
    forward.assert_same([1.0], np.array([1.0]), 0.0)
    with pytest.raises(AssertionError, match="differ"):
        forward.assert_same([1.0], np.array([1.1]), 1e-3)
