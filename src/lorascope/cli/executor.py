"""The processes that a command hands its work to."""

from collections.abc import Generator
from concurrent.futures import Executor
from contextlib import contextmanager

from ..errors import SpecError

__all__ = ["connected", "one_of", "processes"]


def one_of(workers: int, cluster: str | None) -> None:
    """Refuse both.

    Raises:
        SpecError: both are given.
    """
    if workers and cluster is not None:
        raise SpecError(f"give --workers or --cluster, got --workers {workers} and --cluster {cluster}; leave one out")


@contextmanager
def connected(cluster: str | None) -> Generator[Executor | None]:
    """The cluster's executor, or None where none is asked for."""
    if cluster is None:
        yield None
        return
    from ..experiments import cluster as connect  # noqa: PLC0415

    with connect(cluster) as executor:
        yield executor


@contextmanager
def processes(workers: int, cluster: str | None) -> Generator[Executor | None]:
    """The cluster's executor, or so many processes of this machine; None where neither is asked for."""
    one_of(workers, cluster)
    if not workers:
        with connected(cluster) as executor:
            yield executor
        return
    from ..experiments.workers import local_pool  # noqa: PLC0415

    with local_pool(workers) as pool:
        yield pool
