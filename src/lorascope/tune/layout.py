"""How the parameters of several runs lie in tensors with a members axis."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from ..models import Adapter
from ..theory import Model
from .settings import Setting

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """The parameters of members that train the same: factors A of all adapters, factors B, whole weights, biases.

    Attributes:
        ranks: parameter name -> largest rank of any member; smaller factors are padded with zeros, which stay.
        full, biases: parameter names.
        lr_ratio: of B's rate to that of the others.
    """

    ranks: dict[str, int]
    full: tuple[str, ...]
    biases: tuple[str, ...]
    lr_ratio: float = 1.0

    @classmethod
    def of(cls, settings: Sequence[Setting]) -> "Layout":
        first = settings[0]
        names = [name for name, rank in first.ranks.items() if rank > 0]
        ranks = {name: max(setting.ranks[name] for setting in settings) for name in names}
        return cls(ranks, first.full, first.biases, first.lr_ratio)

    @property
    def names(self) -> tuple[str, ...]:
        """All parameters of the model that change."""
        return (*self.ranks, *self.full, *self.biases)

    @staticmethod
    def key(setting: Setting) -> tuple[object, ...]:
        """Settings of one key can share a layout."""
        names = tuple(name for name, rank in setting.ranks.items() if rank > 0)
        return names, setting.full, setting.biases, setting.lr_ratio

    @property
    def multipliers(self) -> list[float]:
        """Factors on the rates, one a parameter."""
        count = len(self.ranks)
        return [1.0] * count + [self.lr_ratio] * count + [1.0] * (len(self.full) + len(self.biases))

    def start(self, frozen: Model, settings: Sequence[Setting]) -> list[Tensor]:
        """Where the runs start, as each one's :class:`.Start` has it.

        A member's draws come from its own seed: A of every adapter in the order of ``ranks``, then every B that is
        random, then the noise, in the order of the parameters.
        """
        found = dict(frozen.named_parameters())
        parts = [self._start(found, setting) for setting in settings]
        return [torch.stack(values) for values in zip(*parts, strict=True)]

    def _start(self, found: dict[str, Parameter], setting: Setting) -> list[Tensor]:
        source, start = torch.Generator().manual_seed(setting.seed), setting.start
        factors: list[list[Tensor]] = [[], []]
        for values, draw, axis in zip(factors, (start.right, start.left), (-2, -1), strict=True):
            for name in self.ranks:
                *heads, out, inp = found[name].shape
                rank = setting.ranks[name]
                shape = (*heads, rank, inp) if axis == -2 else (*heads, out, rank)
                values.append(draw(name, shape, source, found[name]))
        whole = [found[name].detach() for name in self.full]
        shifts = [start.bias(name, found[name]) for name in self.biases]
        rights, lefts, whole, shifts = (
            [start.disturbed(value, source) for value in part] for part in (*factors, whole, shifts)
        )
        # padded with zeros to the largest rank of any member
        for values, axis in ((rights, -2), (lefts, -1)):
            values[:] = [_padded(value, axis, rank) for value, rank in zip(values, self.ranks.values(), strict=True)]
        return [*rights, *lefts, *whole, *shifts]

    def read(
        self, frozen: Model, parameters: Sequence[Tensor], member: int, setting: Setting
    ) -> tuple[dict[str, Adapter], dict[str, Tensor]]:
        """A member's adapters and biases; of a weight trained whole, B is the difference and A the identity."""
        found, count = dict(frozen.named_parameters()), len(self.ranks)
        adapters: dict[str, Adapter] = {}
        for index, name in enumerate(self.ranks):
            rank = setting.ranks[name]
            a, b = parameters[index][member], parameters[count + index][member]
            adapters[name] = Adapter(A=a[..., :rank, :].clone(), B=b[..., :rank].clone())
        rest = dict(zip((*self.full, *self.biases), parameters[2 * count :], strict=True))
        for name in self.full:
            difference = rest[name][member] - found[name].detach()
            eye = torch.eye(difference.shape[-1]).to(difference)
            adapters[name] = Adapter(A=eye.expand(*difference.shape[:-2], -1, -1).contiguous(), B=difference)
        return adapters, {name: rest[name][member].clone() for name in self.biases}


def _padded(values: Tensor, axis: int, size: int) -> Tensor:
    missing = size - values.shape[axis]
    return torch.nn.functional.pad(values, (0, 0, 0, missing) if axis == -2 else (0, missing))
