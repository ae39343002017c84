"""How many threads small matrices deserve."""

from collections.abc import Generator
from contextlib import contextmanager

import torch

__all__ = ["threads_for"]

# Below this width a product of two matrices is over before a second thread has woken up; waking it thousands of times
# costs a lot more than it saves, above all where other processes want the core.
WIDTH = 128


@contextmanager
def threads_for(width: int) -> Generator[None]:
    """One thread for torch's operators while matrices of a small width are worked on; then as before."""
    before = torch.get_num_threads()
    if width >= WIDTH or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
