"""Many starts of one family: short Adam runs, of which the best go on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...models import FNN
from ...optim import LayeredGradient, adam, cosine
from ...theory import padded_biases
from .family import Family
from .point import Point, forward, mean_square
from .source import InputSource

__all__ = ["Candidate", "Schedule", "descend"]

BATCH = 128
BETAS = (0.9, 0.99)


@dataclass(eq=False)
class Candidate:
    """A refined network so far.

    Attributes:
        loss: mean squared error on validation inputs.
        family: what its parameters mean.
        point: factors and biases of one member, float64.
        origin: where it came from, in words.
    """

    loss: float
    family: Family
    point: Point
    origin: str


@dataclass(frozen=True)
class Schedule:
    """Adam in two rounds: every start at a high rate, then the best with a rate that falls to nothing.

    Attributes:
        first, second: steps of the rounds.
        kept: starts of the second round.
        rate: of the second round; the first has twice that.
        decay: weight decay.
    """

    first: int
    second: int
    kept: int
    rate: float = 1e-2
    decay: float = 0.0


def descend(
    family: Family,
    begin: Point,
    target: FNN,
    source: InputSource,
    validation: tuple[Tensor, Tensor],
    schedule: Schedule,
    deadline: float,
) -> list[Candidate]:
    """Refine all members of ``begin`` by Adam in float32; return those that lasted, best first.

    Args:
        family: of the members.
        begin: with a members axis.
        target: the network to imitate.
        source: of batches.
        validation: inputs and the target's outputs, to choose by.
        schedule: of the two rounds.
        deadline: of :func:`time.monotonic`.
    """
    weights = [layer.weight.detach().float() for layer in target.linears]
    shifts = [bias.float() for bias in padded_biases(target, target)]

    def batches(_step: int) -> tuple[Tensor, Tensor]:
        inputs = source.draw(BATCH).float()
        return inputs, forward(weights, shifts, inputs)

    gradient = LayeredGradient([weight.float() for weight in family.weights], batches)
    parts = [part.float().contiguous() for part in begin.parts()]
    rates = torch.full((len(parts[0]),), 2 * schedule.rate)
    decay = torch.full_like(rates, schedule.decay)
    parts = adam(gradient, parts, schedule.first, rates, betas=BETAS, weight_decay=decay, deadline=deadline)
    losses = mean_square(family, Point.of(parts), validation[0][:2000], validation[1][:2000])
    keep = losses.nan_to_num(torch.inf, torch.inf).argsort()[: schedule.kept]
    parts = [part[keep] for part in parts]
    rates, decay = rates[: len(keep)] / 2, decay[: len(keep)]
    parts = adam(
        gradient,
        parts,
        schedule.second,
        rates,
        schedule=cosine(0.01),
        betas=BETAS,
        weight_decay=decay,
        deadline=deadline,
    )
    found = Point.of(parts).double()
    losses = mean_square(family, found, *validation).nan_to_num(torch.inf, torch.inf)
    return [
        Candidate(float(losses[index]), family, found.member(index), f"start {int(keep[index])}")
        for index in losses.argsort().tolist()
    ]
