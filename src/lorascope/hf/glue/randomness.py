"""Draws of other libraries, kept to themselves."""

import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["own_randomness"]


@contextmanager
def own_randomness(seed: int) -> Generator[None]:
    """Seed the global generators for the block, as transformers' trainer and PEFT draw from them, and put them back.

    >>> before = torch.random.get_rng_state()
    >>> with own_randomness(3):
    ...     drawn = torch.rand(1)
    >>> bool((torch.random.get_rng_state() == before).all())
    True
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (what those libraries use)
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.random.default_generator.manual_seed(seed)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
