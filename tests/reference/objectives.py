"""What outputs are compared by, written out one input and one class at a time."""

import math

import torch


def probabilities(scores):
    largest = max(float(score.detach()) for score in scores)
    weights = [torch.exp(score - largest) for score in scores]
    return [weight / sum(weights) for weight in weights]


def halves(output):
    middle = len(output) // 2
    return [sum(output[:middle]), sum(output[middle:])]


def divergence(outputs, wanted, scores):
    """Mean over inputs of sum_k p_k log(p_k / q_k), p from ``wanted`` and q from ``outputs``; (..., width) each."""
    total = 0.0
    pairs = list(zip(outputs.flatten(0, -2), wanted.flatten(0, -2), strict=True))
    for found, goal in pairs:
        q, p = probabilities(scores(found)), probabilities(scores(goal))
        total = total + sum(a * torch.log(a / b) for a, b in zip(p, q, strict=True) if float(a.detach()) > 0)
    return total / len(pairs)


def bernoulli(p, q):
    """KL of two coins."""
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


LOSSES = {
    "mse": lambda outputs, wanted: ((outputs - wanted) ** 2).mean(),
    "classification": lambda outputs, wanted: divergence(outputs, wanted, list),
    "binary": lambda outputs, wanted: divergence(outputs, wanted, halves),
}


def by_torch(outputs, wanted, name):
    """The same by torch's own functions."""
    if name == "mse":
        return torch.nn.functional.mse_loss(outputs, wanted)
    if name == "binary":
        outputs, wanted = (
            torch.stack([part.sum(-1) for part in values.chunk(2, -1)], -1) for values in (outputs, wanted)
        )
    q, p = outputs.log_softmax(-1), wanted.log_softmax(-1)
    return torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1).mean()
