"""How far the frozen network is from the target, beside what adapters make of it."""

import math
from collections.abc import Sequence
from time import perf_counter

from ...theory import Model, rank_needed
from ..networks import fresh_inputs, mean_squared_error
from .measured import Measured, Spec, row

__all__ = ["distance"]


def distance(spec: Spec, frozen: Model, target: Model, found: Sequence[Measured]) -> Measured:
    """Of the untouched frozen network.

    ``frozen_mse``: its error; ``rank_needed``: for exactness, in theory; ``rank_enough``: the least rank found whose
    error is at most ``enough``, infinite where there is none.
    """
    started = perf_counter()
    errors = {one["rank"]: one["metrics"].get("test_mse", math.inf) for one in found if one["rank"] is not None}
    metrics = {
        "frozen_mse": mean_squared_error(frozen, target, fresh_inputs(spec)),
        "rank_needed": float(rank_needed(frozen, target).uniform),
        "rank_enough": min(
            (float(rank) for rank, error in errors.items() if error <= spec["enough"]), default=math.inf
        ),
    }
    return row(spec, None, metrics, perf_counter() - started)
