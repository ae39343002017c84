"""Adam for many members at once: one optimiser state a member, one tensor program for all."""

import math
from collections.abc import Callable, Mapping, Sequence
from time import monotonic

import torch
from torch import Tensor
from torch.optim.adam import adam as fused_adam

from ..shapes import Float

__all__ = ["Adam", "Gradient", "adam", "by_autograd", "cosine"]

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
    decoupled: bool = False,
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
        decoupled: whether weight decay shrinks the parameters, by its product with the rate, instead of adding to the
            gradient (torch's AdamW; Loshchilov & Hutter 2019).
        deadline: of :func:`time.monotonic`; steps end there.
        progress: called with the share of the steps done.

    Returns:
        The parameters after the last step.

    Source: Kingma & Ba 2015. Cost: that of the gradients, and a few passes over the parameters.
    """
    state = Adam(
        parameters, rates, betas=betas, weight_decay=weight_decay, multipliers=multipliers, decoupled=decoupled
    )
    for step in range(steps):
        _, found = gradient(step, state.parameters)
        state.step(found, schedule((step + 1) / steps) if schedule else 1.0)
        if progress is not None:
            progress((step + 1) / steps)
        if monotonic() > deadline:
            break
    return [part.clone() for part in state.parameters]


class Adam:
    """The state of :func:`adam`, for callers that decide themselves when to step.

    One fused pass over one flat tensor a step. torch's fused pass knows one rate for all entries, so it runs on the
    parameters divided by their rates, with rate 1: the same update in other units. Entries of rate 0 stay.

    Args:
        parameters, rates, betas, weight_decay, multipliers, decoupled: as in :func:`adam`.

    Attributes:
        parameters: as they are now; changed in place by each step.
        flat: the same numbers, one parameter after the other.
        gradients: one slot a parameter; a gradient written there need not be copied.
    """

    def __init__(
        self,
        parameters: Sequence[Float[Tensor, "members ..."]],
        rates: Float[Tensor, " members"],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: Float[Tensor, " members"] | None = None,
        multipliers: Sequence[float] | None = None,
        decoupled: bool = False,
    ) -> None:
        shapes = [parameter.shape for parameter in parameters]
        self._betas, self.flat = betas, _flat(parameters)
        self.parameters = _views(self.flat, shapes)
        factors = [1.0] * len(shapes) if multipliers is None else multipliers
        self._rates = _flat(
            [_spread(rates * factor, like) for factor, like in zip(factors, self.parameters, strict=True)]
        )
        still = self._rates == 0
        self._still = (still, self.flat[still]) if bool(still.any()) else None
        self._scaled = self.flat / torch.where(still, 1.0, self._rates)
        decays = weight_decay is not None and bool(weight_decay.any())
        self._decay = _flat([_spread(weight_decay, like) for like in self.parameters]) if decays else None
        self._decoupled = decoupled
        if self._decay is not None and decoupled:
            self._decay *= self._rates  # of the scaled parameters, the share that goes is the same
        self._gradient = torch.zeros_like(self.flat)
        self.gradients = _views(self._gradient, shapes)
        self._first, self._second = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self._count = torch.zeros((), dtype=torch.float32, device=self.flat.device)

    def step(self, gradients: Sequence[Tensor], factor: float = 1.0) -> None:
        """Move the parameters.

        Args:
            gradients: one a parameter; where they are :attr:`gradients` themselves, weight decay is added in place.
            factor: on all rates.
        """
        if gradients is not self.gradients:
            torch.cat([part.reshape(-1) for part in gradients], out=self._gradient)
        if self._decay is not None and self._decoupled:
            self._scaled.addcmul_(self._scaled, self._decay, value=-factor)
        elif self._decay is not None:
            self._gradient.addcmul_(self.flat, self._decay)
        fused_adam(
            [self._scaled],
            [self._gradient],
            [self._first],
            [self._second],
            [],
            [self._count],
            fused=True,
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=factor,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )
        torch.mul(self._scaled, self._rates, out=self.flat)
        if self._still is not None:
            self.flat[self._still[0]] = self._still[1]

    def state(self) -> dict[str, Tensor]:
        """Parameters, moments and the count of steps, as copies: what another such object needs to go on alike."""
        return {name: value.clone() for name, value in self._state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` gave, of parameters of the same shapes and rates."""
        for name, value in self._state().items():
            value.copy_(state[name])

    def _state(self) -> dict[str, Tensor]:
        return {
            "parameters": self.flat,
            "scaled": self._scaled,
            "first": self._first,
            "second": self._second,
            "count": self._count,
        }


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _views(flat: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    parts = flat.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def _spread(members: Tensor | None, like: Tensor) -> Tensor:
    assert members is not None
    return members.to(like).view(-1, *[1] * (like.ndim - 1)).expand_as(like)
