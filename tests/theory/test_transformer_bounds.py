"""The a-priori bound for transformers below the threshold, against the truncated network written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.cases import transformer
from lorascope.errors import AssumptionError, RankError, ShapeError, SpecError
from lorascope.theory import transformer_bound
from reference.cases import seeds
from reference.networks import low_rank


def arrays(network):
    return [
        {name: value.detach().numpy() for name, value in block.named_parameters()} for block in network.layers
    ], network.output.weight.detach().numpy()


def outputs(target, tokens, frozen=None, rank=0):
    """The target on (width, tokens) columns; with ``frozen``, its products miss all but the 2 ``rank`` best parts."""
    blocks, last = arrays(target)
    own_blocks, own_last = arrays(frozen or target)
    near = lambda goal, own: own + low_rank(goal - own, 2 * rank)  # noqa: E731
    turn = np.eye(len(tokens))
    for index, (goal, own) in enumerate(zip(blocks, own_blocks, strict=True)):
        total = 0
        for head in range(len(goal["query"])):
            score = goal["key"][head].T @ goal["query"][head]
            value = goal["ffn_in.weight"] @ goal["out"][head] @ goal["value"][head]
            if frozen is not None:
                score = near(score, turn.T @ own["key"][head].T @ own["query"][head] @ turn)
                value = near(value, own["ffn_in.weight"] @ own["out"][head] @ own["value"][head] @ turn)
            scores = tokens.T @ score @ tokens
            weights = np.exp(scores - scores.max(0))
            total = total + value @ tokens @ (weights / weights.sum(0))
        hidden = np.maximum(total + goal["ffn_in.bias"][:, None], 0)
        turn = own["ffn_out.weight"] @ np.linalg.inv(goal["ffn_out.weight"])
        if index < len(blocks) - 1:
            tokens = goal["ffn_out.weight"] @ hidden + goal["ffn_out.bias"][:, None]
    product = last @ blocks[-1]["ffn_out.weight"]
    if frozen is not None:
        product = near(product, own_last @ own_blocks[-1]["ffn_out.weight"])
    return product @ hidden + (last @ blocks[-1]["ffn_out.bias"])[:, None]


def assert_bounded(bound, frozen, target, rank, points):
    worst = max(np.linalg.norm(outputs(target, x, frozen, rank) - outputs(target, x), axis=0).max() for x in points)
    assert worst <= bound * (1 + 1e-9) + 1e-9, f"an input has error {worst}, the bound is {bound}"
    return worst


def points_of(rng, width, radius, count=60):
    points = rng.standard_normal((count, width, 3))
    return points * radius / np.linalg.norm(points, axis=1, keepdims=True)


@settings(max_examples=25)
@given(seeds, st.integers(1, 6), st.integers(1, 2), st.integers(1, 3), st.sampled_from([0.01, 0.3, 2.0]), st.data())
def test_no_input_of_the_truncated_network_exceeds_it(seed, width, heads, depth, radius, data):
    rank = data.draw(st.integers(0, (width + 1) // 2))
    frozen, target = transformer(width, heads, depth, seed=seed)
    bound = transformer_bound(frozen, target, rank, radius)
    assert np.isfinite(bound)
    assert_bounded(bound, frozen, target, rank, points_of(np.random.default_rng(seed), width, radius))
    if 2 * rank >= width:
        assert bound == 0.0
    elif rank:
        assert bound <= transformer_bound(frozen, target, rank - 1, radius)
        assert bound <= transformer_bound(frozen, target, rank, 2 * radius)


def test_the_written_out_network_is_the_target_and_rejects_too_small_a_bound():
    frozen, target = transformer(4, 2, 2)
    points = points_of(np.random.default_rng(0), 4, 1.0)
    wanted = target(torch.from_numpy(points).mT).detach().numpy()
    found = np.stack([outputs(target, x).T for x in points])
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    worst = assert_bounded(transformer_bound(frozen, target, 1, 1.0), frozen, target, 1, points)
    with pytest.raises(AssertionError, match="the bound is"):
        assert_bounded(0.99 * worst, frozen, target, 1, points)


def test_only_the_values_of_one_head_off_is_said_to_the_digit():
    """Width 1: no attention score depends on anything but the token, so the bound is the error."""
    frozen, target = transformer(1, 1, 1)
    with torch.no_grad():
        for net, size in ((frozen, 1.0), (target, 3.0)):
            for parameter in net.parameters():
                parameter.fill_(0.0 if parameter.ndim == 1 else 1.0)
            net.layers[0].value.fill_(size)
    assert transformer_bound(frozen, target, 0, 2.0) == pytest.approx(4.0)
    assert transformer_bound(frozen, target, 1, 2.0) == 0.0


def test_what_it_cannot_say_it_refuses():
    frozen, target = transformer(3, 1, 2)
    with pytest.raises(ShapeError, match=r"one size.*depth 2.*depth 1"):
        transformer_bound(frozen, transformer(3, 1, 1)[0], 1, 1.0)
    with pytest.raises(RankError, match="at least 0, got -1"):
        transformer_bound(frozen, target, -1, 1.0)
    for radius in (-1.0, float("nan"), float("inf")):
        with pytest.raises(SpecError, match=rf"radius must be finite and at least 0, got {radius}"):
            transformer_bound(frozen, target, 1, radius)
    with torch.no_grad():
        target.layers[0].ffn_out.weight[0] = 0
    with pytest.raises(AssumptionError, match=r"least singular value.*blocks\.0\.ffn_out"):
        transformer_bound(frozen, target, 1, 1.0)
