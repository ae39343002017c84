"""Random weights for the theorems' tests, generic and degenerate."""

import numpy as np
import torch
from hypothesis import strategies as st

from lorascope.models import FNN

seeds = st.integers(0, 2**32 - 1)
KINDS = ("generic", "close", "orthogonal")


def matrices(rng, count, width, kind="close"):
    """Non-singular weights, well-conditioned but for the generic kind."""
    draws = [rng.standard_normal((width, width)) / np.sqrt(width) for _ in range(count)]
    if kind == "close":
        return [np.eye(width) + 0.3 * draw for draw in draws]
    if kind == "orthogonal":
        return [np.linalg.qr(draw)[0] for draw in draws]
    return draws


def tensors(arrays):
    return [torch.from_numpy(np.array(array, dtype=np.float64)) for array in arrays]


@st.composite
def integer_chains(draw, max_width=6, max_depth=5):
    """Frozen and target chains of small integers, ``Lbar <= L``; gaps of any rank, singular layers included."""
    rng = np.random.default_rng(draw(seeds))
    width, depth = draw(st.integers(1, max_width)), draw(st.integers(1, max_depth))
    groups = draw(st.integers(1, depth))
    frozen = rng.integers(-2, 3, (depth, width, width))
    size, target = depth // groups, []
    for group in range(groups):
        stop = depth if group == groups - 1 else size * (group + 1)
        product = np.eye(width, dtype=np.int64)
        for weight in frozen[size * group : stop]:
            product = weight @ product
        rank = draw(st.integers(0, width))
        target.append(product + rng.integers(-2, 3, (width, rank)) @ rng.integers(-2, 3, (rank, width)))
    return list(frozen), target


def network(weights, biases=None, activation="relu"):
    return FNN.from_weights(tensors(weights), None if biases is None else tensors(biases), activation)


def ball(rng, count, width, radius):
    """Points of the ball, half of them on its surface, as a tensor."""
    points = rng.standard_normal((count, width))
    points *= radius / np.linalg.norm(points, axis=1, keepdims=True)
    points[::2] *= rng.uniform(0, 1, (len(points[::2]), 1))
    return torch.from_numpy(points)


def worst_error(model, target, inputs):
    """Largest Euclidean norm of the output error over the rows (tokens) of the inputs."""
    with torch.no_grad():
        return float((model(inputs) - target(inputs)).norm(dim=-1).max())
