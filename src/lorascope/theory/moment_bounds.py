"""Bounds on the mean error from what is known of the target's activations, and from samples to their distribution."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ShapeError, SpecError
from ..shapes import Float

__all__ = ["activation_moments", "moment_bound", "population_bound"]


def moment_bound(
    products: Sequence[Float[Tensor, "_ _"]],
    target: Sequence[Float[Tensor, "_ _"]],
    moments: Sequence[Float[Tensor, "_ _"]],
) -> float:
    """``E ||f - fbar|| <= sum_i (prod_{k>i} ||Wbar_k + E_k||_2) sqrt(tr(E_i Sigma_{i-1} E_i^T))``.

    The data-driven form of ``sharp_bound``, and never above it where ``Sigma_0`` is the moment given to that one:
    residuals are weighed by how often the target's activations point their way.

    Args:
        products: ``Wbar_i + E_i``, (out, inp) each: what the group of layers that imitates target layer ``i`` computes,
            hidden ReLUs active, its bias made up for.
        target: ``Wbar_1, ..., Wbar_Lbar``.
        moments: ``Sigma_{i-1} = E zbar_{i-1} zbar_{i-1}^T``, (inp, inp) each, of what target layer ``i`` is given;
            about 0, not about the mean. From samples: ``activation_moments``.

    Returns:
        A bound on the mean Euclidean output error (not squared), over every input distribution with these moments.

    Raises:
        ShapeError: no layer, lists of different lengths, or matrices that do not fit.

    Source: new; Zeng & Lee 2024, proof of Theorem 5, with the activations' moments kept. Cost O(Lbar D^3).

    >>> half = torch.diag(torch.tensor([1.0, 0.0]))
    >>> moment_bound([half], [torch.eye(2)], [torch.diag(torch.tensor([100.0, 9.0]))])
    3.0
    """
    if not 0 < len(products) == len(target) == len(moments):
        came = f"{len(products)} products, {len(target)} layers, {len(moments)} moments"
        raise ShapeError(f"one product and one moment for each of at least one target layer, got {came}")
    bound = 0.0
    for index, (product, goal, moment) in enumerate(zip(products, target, moments, strict=True)):
        if product.shape != goal.shape or moment.shape != (goal.shape[1], goal.shape[1]):
            came = f"{tuple(goal.shape)}, {tuple(product.shape)} and {tuple(moment.shape)}"
            raise ShapeError(f"layer {index}: weight (out, inp), product (out, inp) and moment (inp, inp), got {came}")
        adapted = product.detach().double()
        error = adapted - goal.detach().to(adapted)
        square = float((error @ moment.detach().to(adapted) * error).sum())
        bound = float(torch.linalg.matrix_norm(adapted, 2)) * bound + math.sqrt(max(square, 0.0))
    return bound


def activation_moments(
    weights: Sequence[Float[Tensor, "_ _"]],
    biases: Sequence[Float[Tensor, " _"]],
    samples: Float[Tensor, "samples inp"],
) -> list[Float[Tensor, "_ _"]]:
    """``Sigma_i = E z_i z_i^T`` for ``i = 0, ..., L-1``, with ``z_0 = x`` and ``z_i = ReLU(W_i z_{i-1} + b_i)``.

    Args:
        weights: ``W_1, ..., W_L``, (out, inp) each.
        biases: ``b_1, ..., b_L``, (out,) each.
        samples: (number, inputs).

    Returns:
        ``L`` matrices in float64, the inputs' first: means over the samples.

    Raises:
        ShapeError: no sample, or another number of biases than of weights.

    Cost O(L number D^2).

    >>> [moment.tolist() for moment in activation_moments([torch.eye(1)], [torch.zeros(1)], torch.tensor([[3.0]]))]
    [[[9.0]]]
    """
    if samples.ndim != 2 or len(samples) == 0 or len(weights) != len(biases):
        raise ShapeError(
            f"samples (number, inputs) of at least one and a bias for each weight, "
            f"got {tuple(samples.shape)}, {len(weights)} weights and {len(biases)} biases"
        )
    hidden, moments = samples.detach().double(), []
    for weight, bias in zip(weights, biases, strict=True):
        moments.append(hidden.T @ hidden / len(hidden))
        hidden = torch.relu(hidden @ weight.detach().to(hidden).T + bias.detach().to(hidden))
    return moments


def population_bound(errors: Float[Tensor, " samples"], largest: float, confidence: float = 0.999) -> float:
    """``E e <= mean(e) + sqrt(2 V ln(2/q) / n) + 7 B ln(2/q) / (3 (n - 1))`` with probability at least ``1 - q``.

    What a mean over samples says of the distribution that they were drawn from.

    Args:
        errors: e, (n,), of independent samples: errors or bounds on them, at least 0.
        largest: B, at least every error that can occur, such as ``certificate.error_bound`` for inputs of its domain.
        confidence: ``1 - q``.

    Returns:
        A bound on the expectation, never above ``largest``; ``V`` is the samples' variance.

    Raises:
        ShapeError: fewer than two errors.
        SpecError: a confidence outside (0, 1), an error that is negative or no number, or one above ``largest``.

    Source: Maurer & Pontil 2009, Theorem 4. Cost O(n).

    >>> round(population_bound(torch.full((1001,), 0.5), 1.0), 3)
    0.518
    """
    if errors.ndim != 1 or len(errors) < 2:
        raise ShapeError(f"errors must be (number,) with at least 2 of them, got {tuple(errors.shape)}")
    if not 0 < confidence < 1:
        raise SpecError(f"confidence must lie between 0 and 1, got {confidence}")
    values = errors.detach().double()
    if not float(values.min()) >= 0:
        raise SpecError(f"errors must be numbers of at least 0, such as norms, got {float(values.min()):g}")
    if not float(values.max()) <= largest:
        raise SpecError(f"largest must be at least every error, {float(values.max()):g}, got {largest:g}")
    count, log = len(values), math.log(2 / (1 - confidence))
    spread = math.sqrt(2 * float(values.var()) * log / count)
    return min(float(values.mean()) + spread + 7 * largest * log / (3 * (count - 1)), largest)
