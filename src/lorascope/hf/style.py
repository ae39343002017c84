"""In which way an adapter is written."""

from dataclasses import dataclass

import torch

from .profiles import Profile

__all__ = ["Style"]


@dataclass(frozen=True)
class Style:
    """What the files and the card depend on beside the factors.

    Attributes:
        profile: who will load it.
        dtype: of the factors.
        base_name: what the adapter says its base is.
        rank: the largest.
        told: how the factors were found, and what of the configurations differs, a sentence each, for the card.
        task: the configuration names the model's task, for which PEFT takes heads whole.
    """

    profile: Profile
    dtype: torch.dtype
    base_name: str
    rank: int
    told: tuple[str, ...] = ()
    task: bool = True
