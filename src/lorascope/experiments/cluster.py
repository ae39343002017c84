"""The workers of a Dask cluster, as an executor."""

import asyncio
import logging
import pickle
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import torch

from ..errors import MissingExtraError, SpecError
from ..records import Provenance, provenance

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["cluster"]

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def cluster(address: str, threads: int = 1, timeout: float = 5.0) -> Generator[Executor]:
    """Connect to a Dask cluster; the executor that comes is for :func:`lorascope.experiments.run`.

    A cell whose worker dies is computed by another, until the scheduler gives it up after four (its setting
    ``distributed.scheduler.allowed-failures``). Workers may come and go; a lost scheduler loses the cells that have not
    ended.

    Args:
        address: of the scheduler, as it prints it, e.g. ``"tcp://10.0.0.1:8786"``; ``tls://`` as Dask is configured.
        threads: of torch in a cell. One process a core with one thread computes most cells a second.
        timeout: seconds to wait for the scheduler, and again for its first worker.

    Yields:
        The executor; it is closed with the block.

    Raises:
        MissingExtraError: Dask is not installed.
        SpecError: no scheduler answers there, it has no worker, or a worker's lorascope is missing or another.
    """
    try:
        import distributed  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise MissingExtraError(
            f"a cluster needs the package distributed ({error}); run: pip install 'lorascope[cluster]'"
        ) from None
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise SpecError(f"threads must be an integer of at least 1, got {threads!r}")
    with _quiet():
        _greet(address, timeout)
        with distributed.Client(address, timeout=timeout, set_as_default=False) as client:
            _check_workers(client, address, timeout)
            yield _Workers(client, threads)


@contextmanager
def _quiet() -> Generator[None]:
    """No log of Dask's on the terminal: what goes wrong is raised or recorded, and said once."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in ("distributed", "tornado")]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


class _Workers(Executor):
    """Dask's executor, with threads counted."""

    def __init__(self, client: "Client", threads: int) -> None:
        self._client, self._threads = client, threads
        # a cell asked for again is computed again
        self._executor = client.get_executor(pure=False)
        self._at_once = 1

    @property
    def at_once(self) -> int:
        if self._client.status == "running":
            self._at_once = max(sum(cast("dict[str, int]", self._client.nthreads()).values()), 1)
        return self._at_once

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        from distributed.protocol.pickle import dumps  # noqa: PLC0415 (an extra)

        # as bytes: the scheduler reads a call before it hands it on, and would need lorascope to read this one
        return self._executor.submit(pickle.loads, dumps(_Call(self._threads, partial(fn, *args, **kwargs))))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait and not cancel_futures)


@dataclass(frozen=True)
class _Call:
    """Once pickled, it is made by reading it."""

    threads: int
    call: Callable[[], object]

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return _limited, (self.threads, self.call)


def _limited(threads: int, call: Callable[[], T]) -> T:
    # here, for torch counts threads by the thread that asks
    torch.set_num_threads(threads)
    return call()


def _greet(address: str, timeout: float) -> None:
    """Ask who is there: Dask's client waits without end for a port that is open and says nothing."""
    try:
        with ThreadPoolExecutor(1) as aside:  # a notebook's own loop may be running here
            found = aside.submit(asyncio.run, _identity(address, timeout)).result()
    except Exception as error:  # noqa: BLE001 (what else may answer there, and how, has no end)
        raise _unusable(address, f"{type(error).__name__}: {error}") from None
    if found != "Scheduler":
        raise _unusable(address, f"a {found} there")


async def _identity(address: str, timeout: float) -> str:
    from distributed import Security  # noqa: PLC0415
    from distributed.core import connect, send_recv  # noqa: PLC0415

    async with asyncio.timeout(timeout + 1):
        security: dict[str, Any] = Security().get_connection_args("client")
        comm = await connect(address, timeout=timeout, **security)
        try:
            identity: Any = await send_recv(comm, op="identity")
            return str(identity["type"])
        finally:
            comm.abort()


def _unusable(address: str, came: str) -> SpecError:
    return SpecError(
        f"the cluster must be the address of a Dask scheduler that answers, such as tcp://10.0.0.1:8786, got "
        f"{address!r} ({came}); start one with: dask scheduler"
    )


def _check_workers(client: "Client", address: str, timeout: float) -> None:
    try:
        client.wait_for_workers(1, timeout)
    except TimeoutError:
        raise SpecError(
            f"the cluster must have a worker, found none at {address} within {timeout:g} s; start some with: "
            f"dask worker {address} --nthreads 1"
        ) from None
    ours = provenance("")
    found = cast("dict[str, object]", client.run(provenance, "", on_error="return"))
    others = Counter(_named(came) for came in found.values() if came != ours)
    faults = [f"{count} of {len(found)} with {what}" for what, count in others.items()]
    if faults:
        raise SpecError(
            f"the cluster's workers must have what this process has, {_named(ours)}, got {'; '.join(faults)}; install "
            f"the same there, or run what they have"
        )


def _named(found: object) -> str:
    if not isinstance(found, Provenance):
        return f"no lorascope that answers ({type(found).__name__}: {found})"
    return f"lorascope {found.version}" + (f" at commit {found.commit}" if found.commit else " outside a checkout")
