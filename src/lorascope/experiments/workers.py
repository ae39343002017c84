"""Processes on this machine that compute cells."""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess

import torch

__all__ = ["local_pool"]


def local_pool(workers: int) -> ProcessPoolExecutor:
    """So many processes of one thread each, which end with the process that started them, even if that is killed."""
    # not forked: threads of polars and torch do not survive that, and what waits for them would wait forever
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare)


def _prepare() -> None:
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    """Leave at once when the parent is gone; waiting for its next task would never end."""
    parent.join()
    os._exit(1)
