"""Matrices handed to the processes of an executor."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from functools import lru_cache
from threading import Lock

from .calibration import Calibration
from .factors import Factors, factorise
from .pairs import Models, Pair, open_models

__all__ = ["spread"]

_OPENING = Lock()
"""Threads of one process wait for the first; transformers' settings while a model is built are the process's."""


def spread(
    executor: Executor,
    models: Models,
    ranks: Mapping[int, tuple[Pair, int]],
    calibration: Calibration | None,
    device: str,
) -> Iterator[tuple[int, Factors]]:
    """Factorise matrices wherever there is room, in whatever order they are done.

    The processes open the models themselves, so they must see the same folders, and those of the calibration.

    Args:
        executor: any.
        models: base and tuned.
        ranks: a matrix and its rank, by number.
        calibration: weights, or None.
        device: where the products run.

    Yields:
        The number and the factors.

    Raises:
        CheckpointError: what a process could not read.
    """
    folders = str(models.base.folder.resolve()), str(models.tuned.folder.resolve())
    futures = {
        executor.submit(_one, folders, pair.name, rank, calibration, device): index
        for index, (pair, rank) in ranks.items()
    }
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        for future in futures:
            future.cancel()


def _one(folders: tuple[str, str], name: str, rank: int, calibration: Calibration | None, device: str) -> Factors:
    with _OPENING:
        pairs = _opened(folders)
    pair = next(pair for pair in pairs if pair.name == name)
    return factorise(pair, rank, device, None if calibration is None else calibration.weights(pair))


@lru_cache(maxsize=1)
def _opened(folders: tuple[str, str]) -> Sequence[Pair]:
    """Once a process: matching names takes longer than a small matrix."""
    return open_models(*folders).pairs
