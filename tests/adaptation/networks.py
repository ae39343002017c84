"""Pairs of networks for the certificates: adapted in every way a network can be, against targets of any depth."""

from dataclasses import dataclass

import numpy as np

import lorascope as ls
from lorascope.models import FNN
from reference.cases import network

KINDS = ("random", "linearised", "kept", "mixed", "perturbed", "singular")


@dataclass(frozen=True)
class Problem:
    model: FNN
    target: FNN
    domain: ls.Ball | ls.Box
    partition: tuple | None
    inputs: int


def draw(rng, inp, out, kind):
    weight = rng.standard_normal((out, inp)) / np.sqrt(inp)
    if kind == "singular":
        return weight * (rng.random((out, 1)) < 0.6) * (rng.random() < 0.8)
    return weight


def shift_of(rng, out):
    return 10.0 ** rng.choice([-9.0, -1.0, 0.0, 0.0, 1.5]) * rng.standard_normal(out)


def problem(seed):
    """One case: widths 1-8, depths 1-5, balls and boxes from a point to wide, biases tiny to huge, either precision.

    The attack's inputs are float32: a side of a box has no length and such a number, or enough of a length.
    """
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    width = int(rng.integers(1, 9))
    narrow = width if rng.random() < 0.7 else int(rng.integers(1, width + 1))
    depth, groups = int(rng.integers(1, 6)), int(rng.integers(1, 6))
    if kind != "random":
        groups = min(groups, depth)
    target = [draw(rng, narrow, narrow, kind) for _ in range(groups)]
    target_biases = [shift_of(rng, narrow) for _ in target]
    size = 10.0 ** rng.uniform(-3, 1.5)
    domain = ls.Ball(size)
    if rng.random() < 0.5:
        low = (size * rng.uniform(-1, 1, narrow)).astype(np.float32).astype(np.float64)
        high = low + size * rng.choice([0.0, 1.0], narrow) * rng.uniform(0.5, 1.5, narrow)
        domain = ls.Box(low.tolist(), high.tolist())
    weights, biases = (
        [draw(rng, width, width, kind) for _ in range(depth)],
        [shift_of(rng, width) for _ in range(depth)],
    )
    partition = None
    if groups <= depth:
        cuts = [0, *sorted(rng.choice(np.arange(1, depth), groups - 1, replace=False).tolist()), depth]
        partition = tuple(tuple(range(cuts[i], cuts[i + 1])) for i in range(groups))
        imitate(rng, kind, partition, weights, biases, target, target_biases)
        partition = partition if rng.random() < 0.8 else None
    pair = [network(weights, biases), network(target, target_biases)]
    for index in range(2):
        pair[index] = pair[index].float() if rng.random() < 0.2 else pair[index]
    return Problem(*pair, domain, partition, narrow)


def imitate(rng, kind, partition, weights, biases, target, target_biases):
    """Make groups like the target's layers, up to something small or of low rank, and their biases large."""
    if kind in ("random", "singular"):
        return
    width, noise = len(weights[0]), 10.0 ** rng.uniform(-8, 0)
    for index, group in enumerate(partition):
        goal = np.zeros((width, width))
        goal[: len(target[index]), : len(target[index])] = target[index]
        offset = np.concatenate([target_biases[index], np.full(width - len(target[index]), -100.0)])
        linear = kind == "linearised" or (kind == "mixed" and rng.random() < 0.5)
        before = np.eye(width)
        moved = np.zeros(width)
        for layer in group[:-1]:
            if kind == "perturbed":
                weights[layer] = np.eye(width) + noise * weights[layer]
            if linear:
                biases[layer] = np.full(width, 10.0 ** rng.choice([0.0, 2.0]))
            before, moved = weights[layer] @ before, weights[layer] @ moved + biases[layer]
        last = goal @ np.linalg.pinv(before, rcond=1e-3) + noise * rng.standard_normal((width, width))
        weights[group[-1]], biases[group[-1]] = last, offset - last @ moved
