"""Inputs to train on, and what the target makes of them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..adaptation import Sampler, check_samples
from ..errors import ShapeError, SpecError
from ..models import FNN
from ..theory import Model

__all__ = ["Batch", "Batches"]

Batch = tuple[Tensor, Tensor]
TOKENS = 10  # of a drawn sequence, as in the paper's experiments


class Batches:
    """Batches of inputs, of the frozen model's width and dtype, and the target's outputs, padded with zeros.

    A held-out batch comes first, then one batch a step: N(0, I), or what the sampler gives. Finite samples are gone
    through in a new random order every time; they are held out as a whole, unless others are given for that.

    Args:
        frozen, target: models.
        batch: rows.
        samples, sampler: where inputs come from; default N(0, I), ten tokens a sequence for transformers.
        generator: of the draws.
        lift: inputs -> inputs of the first layer that is trained.
        held_out: inputs to validate on, instead of those.
        outputs: what computes the target's outputs; default the target itself.

    Raises:
        SpecError: samples and sampler both given, or inputs that are not finite.
        ShapeError: inputs of another width, or another number from the sampler.
    """

    def __init__(
        self,
        frozen: Model,
        target: Model,
        batch: int,
        samples: Tensor | None,
        sampler: Sampler | None,
        generator: torch.Generator,
        lift: Callable[[Tensor], Tensor] | None = None,
        held_out: Tensor | None = None,
        outputs: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if samples is not None and sampler is not None:
            raise SpecError("give samples (a tensor) or sampler (a function of the number wanted), got both")
        self._frozen, self._target, self._lift = frozen, target, lift
        self._outputs = target if outputs is None else outputs
        self.batch, self._sampler, self._generator = batch, sampler, generator
        if isinstance(target, FNN):
            self._shape: tuple[int, ...] = (target.linears[0].weight.shape[1],)
        else:
            self._shape = (-1, target.embed_dim)
        self._like = next(frozen.parameters())
        self._samples = None if samples is None else self._usable(samples)
        self._order = torch.empty(0, dtype=torch.long)
        if held_out is not None:
            apart = self._usable(held_out, "held_out")
        else:
            apart = self._inputs() if self._samples is None else self._samples
        self.validation = self._pairs([apart])[0]

    def draw(self, count: int) -> list[Batch]:
        """The next batches; FNNs' as transposed views of (width, batch), the layout they are worked on in."""
        return self._pairs([self._inputs() for _ in range(count)])

    def state(self) -> dict[str, Tensor]:
        """Where the draws are, as copies."""
        return {"generator": self._generator.get_state(), "order": self._order.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state that batches of the same inputs gave."""
        self._generator.set_state(state["generator"])
        self._order = state["order"].to(self._order)

    def _inputs(self) -> Tensor:
        if self._samples is not None:
            return self._samples[self._next_rows(len(self._samples))]
        if self._sampler is not None:
            found = self._usable(self._sampler(self.batch))
            if len(found) != self.batch:
                raise ShapeError(f"the sampler was asked for {self.batch} samples, got {len(found)}")
            return found
        shape = [TOKENS if length < 0 else length for length in self._shape]
        source = self._generator
        draws = torch.randn(self.batch, *shape, generator=source, dtype=self._like.dtype, device=source.device)
        return draws.to(self._like.device)

    def _next_rows(self, number: int) -> Tensor:
        while len(self._order) < self.batch:
            device = self._generator.device
            fresh = torch.randperm(number, generator=self._generator, device=device).to(self._order)
            self._order = torch.cat([self._order, fresh])
        rows, self._order = self._order[: self.batch], self._order[self.batch :]
        return rows.to(self._like.device)

    def _usable(self, samples: Tensor, name: str = "samples") -> Tensor:
        return check_samples(samples, self._shape, name).to(self._like)

    def _pairs(self, inputs: list[Tensor]) -> list[Batch]:
        """All of them in one pass through the target, where they are of one shape."""
        if len({values.shape for values in inputs}) > 1:
            return [pair for values in inputs for pair in self._pairs([values])]
        stacked = torch.stack(inputs)
        with torch.no_grad():
            dtype = next(self._target.parameters()).dtype
            wanted = self._outputs(stacked.to(dtype)).to(self._like)
            width = self._like.shape[-1]
            stacked, wanted = (_padded(values, width) for values in (stacked, wanted))
            stacked = stacked if self._lift is None else self._lift(stacked)
        if isinstance(self._frozen, FNN):
            stacked, wanted = (values.mT.contiguous().mT for values in (stacked, wanted))
        return list(zip(stacked, wanted, strict=True))


def _padded(values: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, width - values.shape[-1]))
