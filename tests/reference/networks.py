"""Networks and the paper's own split of a low-rank error, as plain numpy with explicit inverses."""

import numpy as np


def chain(weights):
    result = np.eye(weights[0].shape[1])
    for weight in weights:
        result = weight @ result
    return result


def low_rank(matrix, rank):
    left, values, right = np.linalg.svd(matrix)
    return (left[:, :rank] * values[:rank]) @ right[:rank]


def relu_network(inputs, weights, biases):
    """Row by row, with the ReLU on the last layer too."""
    for weight, bias in zip(weights, biases, strict=True):
        inputs = np.maximum(inputs @ weight.T + bias, 0)
    return inputs


def paper_split(frozen, target, ranks):
    """Adapted weights whose product is ``P + LR_r(E)``: the proof of Lemma 1, inverses and all."""
    error = target - chain(frozen)
    _, _, right = np.linalg.svd(error)
    adapted, begin = [], 0
    for layer, rank in enumerate(ranks):
        block = right[begin : begin + rank].T
        suffix, prefix = chain([np.eye(len(error)), *frozen[layer + 1 :]]), chain([np.eye(len(error)), *adapted])
        update = np.linalg.inv(suffix) @ error @ block @ block.T @ np.linalg.inv(prefix)
        adapted.append(frozen[layer] + update)
        begin += rank
    return adapted


def linearised(frozen, target, partition, rank):
    """Weight of each target layer's stand-in: ``P_i + LR_{R |P_i|}(Wbar_i - P_i)``."""
    result = []
    for group, wanted in zip(partition, target, strict=True):
        product = chain([frozen[layer] for layer in group])
        result.append(product + low_rank(wanted - product, rank * len(group)))
    return result


def assert_not_undercut(claimed, frozen, target, ranks, trials, rng):
    """No random adapters of these ranks come nearer to the target than ``claimed`` (spectral norm)."""
    for _ in range(trials):
        scale = 10.0 ** rng.uniform(-2, 1)
        adapted = [
            weight + scale * rng.standard_normal((len(weight), rank)) @ rng.standard_normal((rank, weight.shape[1]))
            for weight, rank in zip(frozen, ranks, strict=True)
        ]
        error = np.linalg.norm(target - chain(adapted), 2)
        assert error >= claimed * (1 - 1e-9) - 1e-12, f"{error} undercuts the claimed least error {claimed}"


def assert_mean_error_within(bound, frozen_like, target, biases, inputs):
    """The mean Euclidean output error over these very inputs is at most ``bound``."""
    outputs = relu_network(inputs, frozen_like, biases) - relu_network(inputs, target, biases)
    error = np.linalg.norm(outputs, axis=1).mean()
    assert error <= bound * (1 + 1e-9) + 1e-12, f"mean error {error} exceeds {bound}"
    return error
