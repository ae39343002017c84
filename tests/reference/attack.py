"""The largest output error an adversary finds: random inputs, the domain's border, and gradient ascent from there."""

import torch

from lorascope.adaptation import Ball

INSIDE = 1 - 1e-6  # so that rounding an input to the model's dtype does not carry it out of the domain


def project(points, domain, inputs):
    if isinstance(domain, Ball):
        length = points.norm(dim=-1, keepdim=True).clamp(min=1e-300)
        return points * (INSIDE * domain.radius / length).clamp(max=1.0)
    low, high = domain.low[:inputs], domain.high[:inputs]
    middle, half = (low + high) / 2, INSIDE * (high - low) / 2
    return torch.maximum(torch.minimum(points, middle + half), middle - half)


def inputs_of(domain, inputs, count, seed, tokens=None):
    """Points of the domain, half of them on its border; (count, tokens, inputs) where there are tokens."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, inputs) if tokens is None else (count, tokens, inputs)
    points = torch.randn(shape, generator=generator, dtype=torch.float64)
    if isinstance(domain, Ball):
        points *= domain.radius / points.norm(dim=-1, keepdim=True)
        points[: count // 2] *= torch.rand((*points.shape[:-1], 1), generator=generator, dtype=torch.float64)[
            : count // 2
        ]
    else:
        low, high = domain.low[:inputs], domain.high[:inputs]
        inside = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
        points = torch.where(points > 0, high, low)  # corners
        points[: count // 2] = inside[: count // 2]
    return project(points, domain, inputs)


def errors(model, target, points):
    """Euclidean norm of the output error (largest token), each model in its own dtype; padded for narrow targets."""
    ours, theirs = (next(m.parameters()) for m in (model, target))
    wide = ours.shape[-1]
    padded = torch.nn.functional.pad(points, (0, wide - points.shape[-1]))
    out, wanted = model(padded.to(ours.dtype)).double(), target(points.to(theirs.dtype)).double()
    error = out - torch.nn.functional.pad(wanted, (0, out.shape[-1] - wanted.shape[-1]))
    norms = error.norm(dim=-1)
    return norms if points.ndim == 2 else norms.amax(dim=-1)


def worst_found(model, target, domain, inputs, *, tokens=None, count=64, steps=25, seed=0):
    """A lower bound on the supremum of the error over the domain, by projected ascent with normalised steps."""
    # inputs exactly representable in float32, so that both models see the same one
    points = inputs_of(domain, inputs, count, seed, tokens).float().double()
    size = float(domain.radius) if isinstance(domain, Ball) else float((domain.high - domain.low).max())
    best = 0.0
    for step in range(steps):
        points = points.detach().requires_grad_()
        found = errors(model, target, points)
        best = max(best, float(found.detach().max()))
        (gradient,) = torch.autograd.grad(found.sum(), points)
        direction = gradient / gradient.norm(dim=-1, keepdim=True).clamp(min=1e-300)
        moved = points.detach() + size * 0.7 ** (step % 10) * direction
        points = project(moved, domain, inputs).float().double()
    return max(best, float(errors(model, target, points).detach().max()))


def assert_bound_holds(bound, model, target, domain, inputs, *, tokens=None, **how):
    """No input of the domain is found whose error exceeds ``bound``."""
    worst = worst_found(model, target, domain, inputs, tokens=tokens, **how)
    assert worst <= bound, f"an input of the domain has error {worst}, the bound is {bound}"
    return worst
