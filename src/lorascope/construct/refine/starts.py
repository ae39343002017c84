"""Where refinement starts: covariance-weighted truncation, noise around it, and the frozen network itself."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...linalg import truncate_weighted
from ...models import FNN
from ...shapes import Float
from ...theory import padded_biases
from .family import Family
from .point import Point

__all__ = ["Moments", "closed_form", "moments_of", "starts", "widened"]

# Standard deviation of random factors, as the paper's LoRA has it, and the largest noise around a truncation.
SPREAD = 0.25
NOISE = 0.1
# Added to the biases of hidden units that are kept, start by start: more or less of them active.
OFFSETS = (0.0, 0.0, 0.4, 0.8)


@dataclass(frozen=True)
class Moments:
    """Of the target's activations before each of its layers.

    Attributes:
        means: (inp,) each.
        covariances: (inp, inp) each, about the mean.
    """

    means: tuple[Float[Tensor, " _"], ...]
    covariances: tuple[Float[Tensor, "_ _"], ...]


def moments_of(target: FNN, inputs: Float[Tensor, "samples inp"], standard: bool, ridge: float = 0.0) -> Moments:
    """Moments over the samples; those of the inputs themselves are known where they are standard normal.

    Args:
        target: ReLU network.
        inputs: in float64.
        standard: inputs are N(0, I).
        ridge: share of the mean variance added to each coordinate's, where samples are few.
    """
    means, covariances, hidden = [], [], inputs
    for layer, bias in zip(target.linears, padded_biases(target, target), strict=True):
        mean = hidden.mean(0)
        centred = hidden - mean
        covariance = centred.T @ centred / len(hidden)
        if standard and not means:
            mean, covariance = torch.zeros_like(mean), torch.eye(len(mean)).to(covariance)
        covariance = covariance + ridge * covariance.diagonal().mean() * torch.eye(len(mean)).to(covariance)
        means.append(mean)
        covariances.append(covariance)
        weight = layer.weight.detach().double()
        hidden = torch.relu(hidden @ weight.T + bias)
    return Moments(tuple(means), tuple(covariances))


def closed_form(family: Family, frozen: FNN, target: FNN, moments: Moments) -> Point:
    """Every run of one group truncated, weighted by the covariance of its inputs; kept runs as the frozen layers are.

    ``B A = LR_r((Wbar - P) C) C^+`` with ``C C^T`` the covariance, and a bias that makes the mean error zero.
    """
    right, left, biases = [], [], []
    plain = padded_biases(frozen, target)
    for index, run in enumerate(family.runs):
        goal = target.linears[index]
        for group in run:
            weight, rank = family.weights[group], family.ranks[group]
            if len(run) == 1:
                error = goal.weight.detach().to(weight) - weight
                b, a = truncate_weighted(error, moments.covariances[index], rank)
                biases.append(plain[index] + (error - b @ a) @ moments.means[index])
                spare = rank - b.shape[1]
                left.append(torch.nn.functional.pad(b, (0, spare)))
                right.append(torch.nn.functional.pad(a, (0, 0, 0, spare)))
            else:
                left.append(weight.new_zeros(len(weight), rank))
                right.append(weight.new_zeros(rank, weight.shape[1]))
                biases.append(frozen.linears[family.groups[group][-1]].bias.detach().to(weight))
    return Point(tuple(right), tuple(left), tuple(biases))


def starts(family: Family, frozen: FNN, target: FNN, moments: Moments, count: int, generator: torch.Generator) -> Point:
    """``count`` members: the first half from the truncation with growing noise, the others from the frozen network.

    Random right factors with left ones zero leave the frozen product as it is; a linearised group then starts with
    the target's bias, a kept one with its own, some with hidden units more active.
    """
    base, plain = closed_form(family, frozen, target, moments), padded_biases(frozen, target)
    half = count // 2
    right, left, biases = [], [], []
    noise = NOISE * torch.linspace(0, 1, max(half, 1), dtype=torch.float64)[:half]
    offsets = torch.tensor(OFFSETS, dtype=torch.float64)[torch.arange(count) % len(OFFSETS)]
    for index, run in enumerate(family.runs):
        for position, group in enumerate(run):
            a, b, bias = (part[group] for part in (base.right, base.left, base.biases))
            rights = SPREAD * _normal((count, *a.shape), generator, a)
            lefts = b.new_zeros(count, *b.shape)
            bias_all = bias.expand(count, -1).clone()
            if len(run) == 1:
                rights[:half] = a
                lefts[:half] = b + noise.to(b)[:, None, None] * _normal((half, *b.shape), generator, b)
                bias_all[half:] = plain[index]
            elif position < len(run) - 1:
                bias_all += offsets.to(bias)[:, None]
            right.append(rights)
            left.append(lefts)
            biases.append(bias_all)
    return Point(tuple(right), tuple(left), tuple(biases))


def widened(point: Point, family: Family, generator: torch.Generator) -> Point:
    """The same networks with the larger ranks of ``family``: new right factors random, new left ones zero."""
    right, left = [], []
    for a, b, rank in zip(point.right, point.left, family.ranks, strict=True):
        spare = rank - len(a)
        right.append(torch.cat([a, SPREAD * _normal((spare, a.shape[1]), generator, a)]))
        left.append(torch.nn.functional.pad(b, (0, spare)))
    return Point(tuple(right), tuple(left), point.biases)


def _normal(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=generator.device).to(like.device)
