"""Processes on this machine that compute cells."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from typing import ParamSpec, Protocol, TypeVar, runtime_checkable

import torch

__all__ = ["Counted", "local_pool"]

P = ParamSpec("P")
T = TypeVar("T")


@runtime_checkable
class Counted(Protocol):
    """An executor that knows how many cells it computes at a time."""

    @property
    def at_once(self) -> int: ...


@runtime_checkable
class _Receiver(Protocol):
    """The end of a pipe, which is of another class on Windows."""

    def recv_bytes(self) -> bytes: ...


@contextmanager
def local_pool(workers: int) -> Generator[Executor]:
    """So many processes of one thread each; they end with the block, or with this process, whatever they are doing.

    A call whose process dies is made once more, in a new process; what the other processes compute is not lost.
    """
    # not forked: threads of polars and torch do not survive that, and what waits for them would wait forever
    theirs, ours = multiprocessing.get_context("spawn").Pipe(duplex=False)
    pool = _Lanes(workers, theirs)
    try:
        yield pool
        pool.shutdown()
    finally:
        pool.closing = True
        ours.close()  # a killed process closes it too
        pool.shutdown(cancel_futures=True)
        theirs.close()


class _Lanes(Executor):
    """A thread for each process, which it has to itself: a pool of several breaks as a whole when one of them dies."""

    def __init__(self, workers: int, parent: _Receiver) -> None:
        self.at_once = workers
        self.closing = False
        self._parent = parent
        self._threads = ThreadPoolExecutor(workers)
        self._processes: dict[int, ProcessPoolExecutor] = {}  # by the thread's number

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        return self._threads.submit(self._twice, partial(fn, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        with ThreadPoolExecutor(self.at_once) as ending:  # all at once, for a process takes its time to end
            for process in self._processes.values():
                ending.submit(process.shutdown, wait, cancel_futures=cancel_futures)

    def _twice(self, call: Callable[[], T]) -> T:
        try:
            return self._once(call)
        except BrokenProcessPool:
            if self.closing:
                raise
            return self._once(call)

    def _once(self, call: Callable[[], T]) -> T:
        lane = threading.get_ident()
        if lane not in self._processes:
            context = multiprocessing.get_context("spawn")
            self._processes[lane] = ProcessPoolExecutor(1, context, _prepare, (self._parent,))
        try:
            return self._processes[lane].submit(call).result()
        except BrokenProcessPool:
            self._processes.pop(lane).shutdown()
            raise


def _prepare(parent: _Receiver) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is for the process that started this one
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: _Receiver) -> None:
    """Leave once the other end is closed: nothing is ever sent, so this waits for nothing else."""
    with suppress(EOFError, OSError):
        parent.recv_bytes()
    os._exit(1)
