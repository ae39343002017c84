"""Where inputs come from while adapters are refined: batches to train on, others to choose by."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...adaptation import Sampler, check_samples
from ...shapes import Float

__all__ = ["InputSource", "input_source"]

VALIDATION = 8000
# Of given samples, one in so many is kept apart to choose by.
HELD_OUT = 4


@dataclass(frozen=True)
class InputSource:
    """An input distribution: a sampler that never ends, or samples that do.

    Attributes:
        draw: number -> that many inputs for training, (number, ...) in float64; from given samples, rows at random.
        validation: inputs to choose by, disjoint from the training ones where there are enough.
        given: the training samples, where they are finite; None where every draw is fresh.
        standard: whether inputs are N(0, I), whose moments are known.
    """

    draw: Callable[[int], Float[Tensor, "samples ..."]]
    validation: Float[Tensor, "held_out ..."]
    given: Float[Tensor, "given ..."] | None
    standard: bool

    def training(self, count: int) -> Float[Tensor, "samples ..."]:
        """``count`` training inputs, or all given samples where they are fewer."""
        if self.given is not None and len(self.given) <= count:
            return self.given
        return self.draw(count)


def input_source(
    shape: tuple[int, ...],
    samples: Float[Tensor, "samples ..."] | None,
    sampler: Sampler | None,
    generator: torch.Generator | None,
    device: torch.device,
    hold_out: bool = True,
) -> InputSource:
    """The source of inputs of one ``shape``; ``samples`` already checked, a sampler's inputs checked at every draw.

    Args:
        shape: of one input, e.g. (width,) or (tokens, width).
        samples: (number, *shape), or None.
        sampler: number -> (number, *shape), or None; neither: N(0, I). Another number of inputs than asked for is
            taken as it comes: a sampler may well have one fixed set of them. What it raises is passed on.
        generator: of all draws; default seed 0.
        device: where the inputs go.
        hold_out: whether one in four of given samples is kept apart; False where there is nothing to choose.

    Raises:
        ShapeError, SpecError: a sampler whose inputs have another shape, are not finite, or none; at any draw.
    """
    source = generator or torch.Generator().manual_seed(0)
    if samples is None:
        standard = sampler is None

        def draw(count: int) -> Tensor:
            if sampler is not None:
                return check_samples(sampler(count), shape).to(device, torch.float64)
            return torch.randn(count, *shape, generator=source, dtype=torch.float64, device=source.device).to(device)

        return InputSource(draw, draw(VALIDATION), None, standard)
    rows = samples.detach().to(device, torch.float64)
    order = torch.randperm(len(rows), generator=source, device=source.device).to(device)
    apart = len(rows) // HELD_OUT if hold_out else 0
    training = rows[order[apart:]]
    validation = rows[order[:apart]] if apart else rows

    def pick(count: int) -> Tensor:
        index = torch.randint(len(training), (count,), generator=source, device=source.device).to(device)
        return training[index]

    return InputSource(pick, validation, training, standard=False)
