"""Of measurements on real tasks those that differ in the seed alone, so that they may be averaged."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from .cells import canonical_json
from .medians import Measurement

__all__ = ["alike"]

# what one run of a suite varies within a task, beside the seed
VARIED = ("init", "method", "ranks", "lr", "head_lr", "full_lr", "texts", "calibration")


def alike(found: Sequence[Measurement]) -> list[Measurement]:
    """Those of one checkpoint, and for each task of one setting on the same rows: whichever has the most cells.

    What differs in more than the seed is no repetition: another checkpoint, other rows, another number of steps,
    other learning rates to choose among. Cells that differ in their ranks alone go together; a rank that a seed has
    from several counts once.

    Args:
        found: measurements of the suite ``glue``, of one scale.

    Returns:
        In the order in which they came.

    Cost O(measurements log measurements).

    >>> sizes = [Measurement({"task": "rte", "seed": seed, "checkpoint": name}, f"{name}{seed}", "full", None, {"x": 1})
    ...          for name, seed in (("a", 0), ("b", 0), ("b", 1))]
    >>> [one.cell for one in alike(sizes)]
    ['b0', 'b1']
    """
    kept = _most(found, lambda _: (), lambda spec: str(spec.get("checkpoint_digest", spec.get("checkpoint"))))
    kept = _most(kept, lambda spec: spec.get("task"), lambda spec: _without(spec, ("seed", *VARIED)))
    kept = _most(kept, _kind, lambda spec: _without(spec, ("seed", "ranks")))
    once: dict[Hashable, Measurement] = {}
    for one in sorted(kept, key=lambda one: (bool(one.metrics), len(one.spec.get("ranks", ()))), reverse=True):
        once.setdefault((*_kind(one.spec), one.spec.get("seed"), one.method, one.rank), one)
    chosen = {id(one) for one in once.values()}
    return [one for one in kept if id(one) in chosen]


def _most(
    found: Sequence[Measurement],
    within: Callable[[Mapping[str, Any]], Hashable],
    apart: Callable[[Mapping[str, Any]], str],
) -> list[Measurement]:
    """In each group those that agree on what tells them apart and have the most cells; of as many, the most rows."""
    groups: dict[Hashable, dict[str, list[Measurement]]] = {}
    for one in found:
        groups.setdefault(within(one.spec), {}).setdefault(apart(one.spec), []).append(one)
    chosen = {group: max(ways, key=lambda way, ways=ways: (*_size(ways[way]), way)) for group, ways in groups.items()}
    return [one for one in found if apart(one.spec) == chosen[within(one.spec)]]


def _size(found: Sequence[Measurement]) -> tuple[int, int]:
    whole = [one for one in found if one.metrics]
    return len({one.cell for one in whole}), len(whole)


def _kind(spec: Mapping[str, Any]) -> tuple[Hashable, ...]:
    return spec.get("task"), spec.get("init"), spec.get("method")


def _without(spec: Mapping[str, Any], keys: Sequence[str]) -> str:
    return canonical_json({key: value for key, value in spec.items() if key not in keys})
