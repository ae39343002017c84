"""How large a network's output gets on a domain."""

import torch
from torch import Tensor, nn

from .domain import Ball, Domain, Region, region_of

__all__ = ["largest_output"]


def largest_output(
    model: nn.Module, domain: Domain, inputs: int, *, tokens: int | None = None, starts: int = 64, steps: int = 20
) -> float:
    """A lower bound on the largest output norm over the domain, reached by an actual input.

    Each step moves to the input of the domain that is best for the current gradient, which climbs all the way for
    outputs that are convex in the input.

    Args:
        model: maps (batch, inputs), or (batch, tokens, inputs) where ``tokens`` is given.
        domain: of an input, or of every token.
        inputs: coordinates.
        tokens: sequence length; the norm is then the largest token's.
        starts, steps: of the ascent.
    """
    parameter = next(model.parameters())
    width = inputs if isinstance(domain, Ball) else len(domain.low)
    whole = region_of(domain, width, inputs, parameter.detach().double())
    region = Region(whole.low[:inputs], whole.high[:inputs], whole.centre[:inputs], whole.radius)
    generator = torch.Generator().manual_seed(0)
    shape = (starts, inputs) if tokens is None else (starts, tokens, inputs)
    point = _farthest(torch.randn(shape, generator=generator, dtype=torch.float64).to(region.low), region)
    best = 0.0
    for _ in range(steps):
        with torch.enable_grad():
            point = point.to(parameter.dtype).requires_grad_()
            norms = model(point).norm(dim=-1)
            peak = norms if tokens is None else norms.amax(dim=-1)
            (gradient,) = torch.autograd.grad(peak.sum(), point)
        best = max(best, float(norms.detach().max()))
        point = _farthest(gradient.double(), region)
    return best


def _farthest(direction: Tensor, region: Region) -> Tensor:
    """The point of the ball, then of the box, farthest along each direction."""
    length = direction.norm(dim=-1, keepdim=True).clamp(min=1e-300)
    ball = region.centre + region.radius * direction / length
    corner = torch.where(direction >= 0, region.high, region.low)
    inside_box = bool(((ball >= region.low - 1e-12) & (ball <= region.high + 1e-12)).all())
    return (ball if inside_box else corner).detach()
