"""Adam for many members at once: one optimiser state a member, one tensor program for all."""

import math
from collections.abc import Callable, Sequence
from time import monotonic

import torch
from torch import Tensor
from torch.optim.adam import adam as fused_adam

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
    decay = None if weight_decay is None or not weight_decay.any() else weight_decay
    update = _Update(parameters, rates, multipliers or [1.0] * len(parameters), decay, betas)
    for step in range(steps):
        _, found = gradient(step, update.current)
        update(found, schedule((step + 1) / steps) if schedule else 1.0)
        if progress is not None:
            progress((step + 1) / steps)
        if monotonic() > deadline:
            break
    return [part.clone() for part in update.current]


class _Update:
    """Adam's update in one fused pass, each entry at its own rate.

    torch's fused pass knows one rate for all entries. It runs on ``scaled = state / rate`` with rate 1, which is the
    same update in other units; entries of rate 0 stay. The state is flat, one parameter after the other.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        rates: Tensor,
        multipliers: Sequence[float],
        decay: Tensor | None,
        betas: tuple[float, float],
    ) -> None:
        shapes = [parameter.shape for parameter in parameters]
        self.state, self.betas = _flat(parameters), betas
        self.current = _views(self.state, shapes)
        self.rates = _flat(
            [
                (_column(rates, part) * factor).expand_as(part)
                for part, factor in zip(self.current, multipliers, strict=True)
            ]
        )
        still = self.rates == 0
        self.still = (still, self.state[still]) if bool(still.any()) else None
        self.scaled = self.state / torch.where(still, 1.0, self.rates)
        self.decay = None if decay is None else [_column(decay, part) for part in self.current]
        self.decayed = [] if decay is None else _views(torch.empty_like(self.state), shapes)
        self.lists = [_views(flat, shapes) for flat in (self.scaled, *torch.zeros(2, *self.state.shape).to(self.state))]
        self.counts = [torch.zeros((), dtype=torch.float32, device=self.state.device) for _ in shapes]

    def __call__(self, grads: Sequence[Tensor], factor: float) -> None:
        if self.decay is None:
            grads = [part.contiguous() for part in grads]
        else:
            for part, value, decay, out in zip(grads, self.current, self.decay, self.decayed, strict=True):
                torch.addcmul(part, value, decay, out=out)
            grads = self.decayed
        scaled, first, second = self.lists
        fused_adam(
            scaled,
            list(grads),
            first,
            second,
            [],
            self.counts,
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=factor,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )
        torch.mul(self.scaled, self.rates, out=self.state)
        if self.still is not None:
            self.state[self.still[0]] = self.still[1]


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _views(flat: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    parts = flat.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _column(members: Tensor, like: Tensor) -> Tensor:
    return members.to(like).view(-1, *[1] * (like.ndim - 1))
