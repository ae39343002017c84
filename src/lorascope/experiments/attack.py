"""The largest output error that gradient ascent on the input finds inside a domain."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from ..adaptation import Ball, Domain
from ..shapes import Float
from ..theory import Model

__all__ = ["attacked_error", "error_norms"]

STARTS = 256
STEPS = 120
CYCLE = 12  # steps from a jump of the domain's size down to a small one
SHRINK = 0.6
INSIDE = 1 - 1e-9  # so that rounding carries no input out of the domain


def attacked_error(
    model: Model,
    target: Model,
    domain: Domain,
    generator: torch.Generator,
    *,
    tokens: int | None = None,
    starts: int = STARTS,
    steps: int = STEPS,
) -> float:
    """A lower bound on ``sup |f(x) - fbar(x)|_2`` over the domain (of the largest token), by projected ascent.

    ``x <- P(x + t g / |g|)`` with the error's gradient ``g``, from all starts at once: half of them on the domain's
    border (a Box's corners), half inside. ``t`` falls from the domain's size and starts again, over and over: error
    norms of ReLU networks are piecewise smooth, and on each piece largest at its border.

    Args:
        model, target: of one width; evaluated in float64.
        domain: of the input, of every token.
        generator: of the starts.
        tokens: of an input, for transformers.
        starts, steps: how hard to look.

    Returns:
        The largest error seen at any point of any path; for linear networks on a Ball it is the supremum, but for what
        the last steps leave.

    Source: new; Zeng & Lee 2024 measure no worst case. Cost O(steps starts) passes through both models.

    >>> from lorascope.models import FNN
    >>> eye = torch.eye(2, dtype=torch.float64)
    >>> double, same = (FNN.from_weights([k * eye], activation="identity") for k in (2, 1))
    >>> round(attacked_error(double, same, Ball(3.0), torch.Generator().manual_seed(0)), 6)
    3.0
    """
    width = next(target.parameters()).shape[-1]
    shape = (starts, width) if tokens is None else (starts, tokens, width)
    model, target = (_in_float64(one) for one in (model, target))
    points, size = _starts(domain, shape, generator)
    largest = 0.0
    for stride in _strides(size, steps):
        with torch.enable_grad():  # wherever this is called
            points.requires_grad_()
            errors = error_norms(model, target, points)
            (slope,) = torch.autograd.grad(errors.sum(), points)
        largest = max(largest, float(errors.detach().max()))
        # one length for all tokens of an input: they rise together
        over = tuple(range(1, slope.ndim))
        step = stride * slope / slope.norm(dim=over, keepdim=True).clamp(min=1e-300)
        points = _projected(points.detach() + step, domain)
    with torch.no_grad():
        return max(largest, float(error_norms(model, target, points).max()))


def error_norms(model: Model, target: Model, inputs: Float[Tensor, "samples *seq inp"]) -> Float[Tensor, " samples"]:
    """Euclidean norm of the output error of each input; of the largest token, where there are tokens."""
    norms = (model(inputs) - target(inputs)).norm(dim=-1)
    return norms if norms.ndim == 1 else norms.amax(dim=-1)


def _in_float64(model: Model) -> Model:
    """A copy that asks for no gradients of its own."""
    copied = copy.deepcopy(model).to("cpu", torch.float64)
    return copied.requires_grad_(False)


def _starts(domain: Domain, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, float]:
    """Points of the domain, and how large it is."""
    draws = torch.randn(shape, generator=generator, dtype=torch.float64)
    inside = torch.rand((*shape[:-1], 1), generator=generator, dtype=torch.float64)
    inside[: shape[0] // 2] = 1.0
    if isinstance(domain, Ball):
        points = INSIDE * domain.radius * inside * draws / draws.norm(dim=-1, keepdim=True)
        return points, domain.radius
    low, high = (torch.as_tensor(bound)[: shape[-1]] for bound in (domain.low, domain.high))
    points = (low + high) / 2 + inside * INSIDE * (high - low) / 2 * draws.sign()
    return points, float((high - low).norm()) / 2


def _strides(size: float, steps: int) -> Iterator[float]:
    for step in range(steps):
        yield 2 * size * SHRINK ** (step % CYCLE)


def _projected(points: Tensor, domain: Domain) -> Tensor:
    if isinstance(domain, Ball):
        length = points.norm(dim=-1, keepdim=True).clamp(min=1e-300)
        return points * (INSIDE * domain.radius / length).clamp(max=1.0)
    low, high = (torch.as_tensor(bound)[: points.shape[-1]] for bound in (domain.low, domain.high))
    return points.clamp(low, high)
