"""The records of one suite at its largest scale: what a figure is drawn from."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ..errors import SpecError
from ..records import Measurement, measurements
from .style import METHODS

__all__ = ["Extent", "extent"]

SCALES = ("smoke", "medium", "paper")
INITS = ("random", "pretrained")
# how much was computed, not what: of two cells that differ in nothing else, a figure takes the one with more
EFFORT = ("ranks", "lr", "weight_decay", "steps", "batch", "validate_every", "test_inputs", "profile")
PROFILES = ("fast", "full")


@dataclass(frozen=True)
class Extent:
    """Measurements of one suite at one scale.

    Attributes:
        suite, scale: their names.
        found: by depths, frozen network, method, cell and rank.
        seeds: how many pairs of networks of each kind.
        steps: of gradient methods, each number that occurs; empty where there are none.
        failed: how many measurements have no metrics.
        superseded: how many were left out, for another cell has the same with more steps or inputs.
        apart: how many were left out, for they are no repetitions of the others.
    """

    suite: str
    scale: str
    found: tuple[Measurement, ...]
    seeds: int
    steps: tuple[int, ...]
    failed: int
    superseded: int
    apart: int = 0

    def title(self) -> str:
        """For instance ``smoke scale: 3 seeds, 1,000 steps``."""
        parts = ["1 seed" if self.seeds == 1 else f"{self.seeds} seeds"]
        if self.steps:
            parts.append(" or ".join(f"{steps:,}" for steps in self.steps) + " steps")
        return f"{self.scale} scale: {', '.join(parts)}"


def extent(
    table: pl.DataFrame, suite: str, alike: Callable[[Sequence[Measurement]], list[Measurement]] = list
) -> Extent:
    """A suite's measurements at the largest scale that has some.

    Args:
        table: from ``records.read``.
        suite: its name.
        alike: which of them may share a figure; default: all.

    Raises:
        SpecError: no records of the suite.

    Cost O(rows).
    """
    every = measurements(table, suite)
    if not every:
        raise SpecError(f"a figure needs records of its suite {suite}, got none; run: lorascope run {suite}")
    scale = max({str(one.spec.get("scale", "")) for one in every}, key=_size)
    whole = [one for one in every if str(one.spec.get("scale", "")) == scale]
    chosen = alike(whole)
    kept = _largest(chosen)
    kept.sort(key=_order)
    return Extent(
        suite,
        scale or "unnamed",
        tuple(kept),
        len({one.spec.get("seed") for one in kept}),
        tuple(sorted({int(one.spec["steps"]) for one in kept if "steps" in one.spec})),
        sum(not one.metrics for one in kept),
        len(chosen) - len(kept),
        len(whole) - len(chosen),
    )


def _size(scale: str) -> tuple[int, str]:
    return (SCALES.index(scale) if scale in SCALES else -1, scale)


def _largest(found: Iterable[Measurement]) -> list[Measurement]:
    """One for each method, rank and pair of networks, so that every seed counts once."""
    best: dict[tuple[str, str, int | None], Measurement] = {}
    for one in found:
        same = {key: value for key, value in one.spec.items() if key not in EFFORT}
        key = json.dumps(same, sort_keys=True), one.method, one.rank
        if key not in best or _effort(one) > _effort(best[key]):
            best[key] = one
    return list(best.values())


def _effort(one: Measurement) -> tuple[float, ...]:
    spec = one.spec
    rates = len(_listed(spec.get("lr"))) * max(len(_listed(spec.get("weight_decay"))), 1)
    profile = PROFILES.index(spec["profile"]) if spec.get("profile") in PROFILES else -1
    return float(spec.get("steps", 0)), float(rates), float(profile), float(spec.get("test_inputs", 0))


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []


def _order(one: Measurement) -> tuple[Any, ...]:
    spec: Mapping[str, Any] = one.spec
    init = str(spec.get("init", ""))
    place = INITS.index(init) if init in INITS else len(INITS)
    method = list(METHODS).index(one.method) if one.method in METHODS else len(METHODS)
    rank = -1 if one.rank is None else one.rank
    return spec.get("target_depth", 0), spec.get("frozen_depth", 0), place, method, one.method, one.cell, rank
