"""Adam for many members at once: one optimiser state a member, one tensor program for all."""

import math
from collections.abc import Callable, Sequence
from time import monotonic

import torch
from torch import Tensor

from ..shapes import Float

__all__ = ["Gradient", "adam", "by_autograd", "cosine"]

# (step from 0, parameters) -> (loss of each member, gradient of each parameter)
Gradient = Callable[[int, Sequence[Tensor]], tuple[Float[Tensor, " members"], Sequence[Tensor]]]
EPSILON = 1e-8


def cosine(floor: float) -> Callable[[float], float]:
    """Schedule from 1 at the start to ``floor`` at the end; the argument is the share of the steps done."""
    return lambda share: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))


def by_autograd(loss: Callable[[int, Sequence[Tensor]], Float[Tensor, " members"]]) -> Gradient:
    """The gradient of a loss that torch differentiates: ``(step, parameters) -> loss of each member``."""

    def gradient(step: int, parameters: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        with torch.enable_grad():
            leaves = [parameter.detach().requires_grad_() for parameter in parameters]
            losses = loss(step, leaves)
            found = torch.autograd.grad(losses.sum(), leaves, materialize_grads=True)
        return losses.detach(), found

    return gradient


def adam(
    gradient: Gradient,
    parameters: Sequence[Float[Tensor, "members ..."]],
    steps: int,
    rates: Float[Tensor, " members"],
    *,
    schedule: Callable[[float], float] | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: Float[Tensor, " members"] | None = None,
    multipliers: Sequence[float] | None = None,
    deadline: float = math.inf,
    progress: Callable[[float], None] | None = None,
) -> list[Float[Tensor, "members ..."]]:
    """Minimise every member's loss by Adam; members do not see each other.

    ``m <- b1 m + (1 - b1) g``, ``v <- b2 v + (1 - b2) g^2``,
    ``p <- p - rate schedule mhat / (sqrt(vhat) + 1e-8)``.

    Args:
        gradient: called with the step and the parameters; the loss it returns is not used.
        parameters: leading members axis each; left as they are.
        steps: how many.
        rates: learning rate of each member.
        schedule: factor on the rates, by the share of the steps done; default constant.
        betas: decay of the two moments.
        weight_decay: of each member, added to the gradient (L2, as in torch's Adam).
        multipliers: factor on the rates, one a parameter.
        deadline: of :func:`time.monotonic`; steps end there.
        progress: called with the share of the steps done.

    Returns:
        The parameters after the last step.

    Source: Kingma & Ba 2015. Cost: that of the gradients, and a few passes over the parameters.
    """
    shapes = [parameter.shape[1:] for parameter in parameters]
    sizes = [shape.numel() for shape in shapes]
    members = len(rates)
    state = torch.cat([parameter.detach().reshape(members, -1) for parameter in parameters], dim=1)
    current = [part.view(members, *shape) for part, shape in zip(state.split(sizes, dim=1), shapes, strict=True)]
    first, second = torch.zeros_like(state), torch.zeros_like(state)
    step_sizes = rates.to(state)[:, None].expand_as(state).clone()
    for part, factor in zip(step_sizes.split(sizes, dim=1), multipliers or [1.0] * len(sizes), strict=True):
        part *= factor
    decay = None if weight_decay is None or not weight_decay.any() else weight_decay.to(state)[:, None]
    bottom = torch.empty_like(state)
    for step in range(steps):
        _, found = gradient(step, current)
        grads = torch.cat([part.reshape(members, -1) for part in found], dim=1)
        if decay is not None:
            grads.addcmul_(state, decay)
        first.lerp_(grads, 1 - betas[0])
        second.mul_(betas[1]).addcmul_(grads, grads, value=1 - betas[1])
        torch.sqrt(second, out=bottom)
        bottom.div_(math.sqrt(1 - betas[1] ** (step + 1))).add_(EPSILON)
        factor = schedule((step + 1) / steps) if schedule else 1.0
        state.addcmul_(step_sizes, first / bottom, value=-factor / (1 - betas[0] ** (step + 1)))
        if progress is not None:
            progress((step + 1) / steps)
        if monotonic() > deadline:
            break
    return [part.clone() for part in current]
