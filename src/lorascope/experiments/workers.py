"""Processes on this machine that compute cells."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from typing import Protocol, runtime_checkable

import torch

__all__ = ["local_pool"]


@runtime_checkable
class _Receiver(Protocol):
    """The end of a pipe, which is of another class on Windows."""

    def recv_bytes(self) -> bytes: ...


@contextmanager
def local_pool(workers: int) -> Generator[ProcessPoolExecutor]:
    """So many processes of one thread each; they end with the block, or with this process, whatever they are doing."""
    # not forked: threads of polars and torch do not survive that, and what waits for them would wait forever
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare, initargs=(theirs,))
    try:
        yield pool
        pool.shutdown()
    finally:
        ours.close()  # a killed process closes it too
        pool.shutdown(cancel_futures=True)
        theirs.close()


def _prepare(parent: _Receiver) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is for the process that started this one
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: _Receiver) -> None:
    """Leave once the other end is closed: nothing is ever sent, so this waits for nothing else."""
    with suppress(EOFError, OSError):
        parent.recv_bytes()
    os._exit(1)
