"""How the parameters of several runs lie in tensors with a members axis."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models import Adapter
from ..theory import Model
from .settings import Setting

__all__ = ["Layout"]

SPREAD = 0.25  # standard deviation of a factor's random start, as in the paper's experiments


@dataclass(frozen=True)
class Layout:
    """The parameters of members that train the same: factors A of all adapters, factors B, whole weights, biases.

    Attributes:
        ranks: parameter name -> largest rank of any member; smaller factors are padded with zeros, which stay.
        full, biases: parameter names.
    """

    ranks: dict[str, int]
    full: tuple[str, ...]
    biases: tuple[str, ...]

    @classmethod
    def of(cls, settings: Sequence[Setting]) -> "Layout":
        first = settings[0]
        names = [name for name, rank in first.ranks.items() if rank > 0]
        ranks = {name: max(setting.ranks[name] for setting in settings) for name in names}
        return cls(ranks, first.full, first.biases)

    @property
    def names(self) -> tuple[str, ...]:
        """All parameters of the model that change."""
        return (*self.ranks, *self.full, *self.biases)

    @staticmethod
    def key(setting: Setting) -> tuple[object, ...]:
        """Settings of one key can share a layout."""
        return tuple(name for name, rank in setting.ranks.items() if rank > 0), setting.full, setting.biases

    def start(self, frozen: Model, settings: Sequence[Setting]) -> list[Tensor]:
        """Where the runs start: A ~ N(0, 0.25^2), B = 0, so that the first delta is zero; the rest as it is frozen.

        A member's A is drawn from its own seed, adapter by adapter in the order of ``ranks``.
        """
        found = dict(frozen.named_parameters())
        sources = [torch.Generator().manual_seed(setting.seed) for setting in settings]
        right: list[Tensor] = []
        left: list[Tensor] = []
        for name, rank in self.ranks.items():
            weight = found[name]
            *heads, out, inp = weight.shape
            factors = weight.new_zeros(len(settings), *heads, rank, inp)
            for factor, setting, source in zip(factors, settings, sources, strict=True):
                draws = torch.randn(*heads, setting.ranks[name], inp, generator=source, dtype=weight.dtype)
                factor[..., : setting.ranks[name], :] = SPREAD * draws.to(weight.device)
            right.append(factors)
            left.append(weight.new_zeros(len(settings), *heads, out, rank))
        rest = [found[name].detach().expand(len(settings), *found[name].shape) for name in (*self.full, *self.biases)]
        return [*right, *left, *(value.contiguous() for value in rest)]

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
