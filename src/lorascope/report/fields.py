"""What pages know of a run: one flat mapping of names to numbers and words."""

import math
from collections.abc import Sequence
from typing import Any

from .runs import Run
from .suites import command

__all__ = ["Fields", "all_fields", "fields", "finite", "panel_word"]

Fields = dict[str, Any]


def fields(run: Run, extra: Sequence[str] = ()) -> Fields:
    """Everything that filters, plots and tables use.

    Beside the metrics: ``entries`` (of matrices and biases that are trained), ``rms_error`` (root mean square of the
    output error's Euclidean norm, a token's for transformers) where there is a bound to hold beside it, ``measured``
    (the largest error that was found, else ``rms_error``) and ``looseness`` (the bound over that).

    Args:
        run: which.
        extra: keys of its spec to have as well.

    Cost O(metrics + extra).
    """
    spec = run.spec
    known: Fields = {
        "suite": run.suite,
        "cell": run.cell,
        "scale": run.scale,
        "init": run.init,
        "depths": run.depths,
        "seed": run.seed,
        "method": run.method,
        "line": run.line,
        "rank": run.rank,
        "status": "failed" if run.failed else "ok",
        "message": run.message,
        "seconds": run.seconds,
        "version": run.version,
        "commit": run.commit,
        "device": run.device,
        "command": command(run),
        "model": spec.get("model"),
        "dtype": spec.get("dtype"),
        "width": spec.get("width"),
        "frozen_depth": spec.get("frozen_depth"),
    }
    known |= {key: _plain(spec[key]) for key in extra if key in spec}
    known |= _placed(run) | dict(run.metrics) | _derived(run)
    if run.curve:
        known["curve"] = [[step for step, _ in run.curve], [value for _, value in run.curve]]
    return {name: value for name, value in known.items() if value is not None}


def all_fields(runs: Sequence[Run], extra: Sequence[str] = ()) -> list[Fields]:
    """Of each run; what a cell says of its networks, in a row without a rank, is said of each of its ranks as well.

    Cost O(runs x fields).
    """
    ranked = {run.cell for run in runs if run.rank is not None}
    shared = {run.cell: dict(run.metrics) for run in runs if run.rank is None and run.cell in ranked}
    return [shared.get(run.cell, {}) | fields(run, extra) for run in runs]


def finite(value: object) -> bool:
    """A number that can be drawn."""
    return isinstance(value, int | float) and math.isfinite(value)


def panel_word(field: str, value: str) -> str:
    """What a panel's heading says of a field.

    >>> panel_word("init", "random"), panel_word("depths", "1/2"), panel_word("width", "16")
    ('random', 'depths 1/2', 'width 16')
    """
    speaks_for_itself = {"dtype", "init", "method", "model", "scale", "suite", "task"}
    return value if field in speaks_for_itself or not value else f"{field.replace('_', ' ')} {value}"


def _plain(value: object) -> str | float:
    if isinstance(value, list):
        return ", ".join(str(_plain(one)) for one in value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _placed(run: Run) -> Fields:
    """Where on an axis, other than by rank."""
    spec, placed = run.spec, Fields()
    if run.rank is not None:
        placed["rank_line"] = f"rank {run.rank}"
    if isinstance(spec.get("allocation"), list):
        placed["allocation"] = "+".join(map(str, spec["allocation"]))
    if "layers" in spec:
        placed["layers"] = spec["layers"]
    pretrain = spec.get("pretrain")
    if isinstance(pretrain, dict) and "level" in pretrain:
        placed["level"] = pretrain["level"]
    return placed


def _derived(run: Run) -> Fields:
    found = Fields()
    metrics = run.metrics
    if "parameters" in metrics:
        found["entries"] = metrics["parameters"] + metrics.get("bias_parameters", 0)
    bound, width, mse = metrics.get("error_bound"), run.spec.get("width"), metrics.get("test_mse")
    if bound is None:
        return found
    if mse is not None and not mse < 0 and isinstance(width, int):
        found["rms_error"] = math.sqrt(width * mse)
    searched = [metrics[name] for name in ("largest_error", "attacked_error") if name in metrics]
    # what is no number is no small error
    measured = max((math.inf if math.isnan(one) else one for one in searched), default=found.get("rms_error"))
    if measured is not None:
        found["measured"] = measured
        if measured > 0:
            found["looseness"] = bound / measured
    return found
