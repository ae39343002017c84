"""Rows of a cell that ran, or of one that failed."""

from collections.abc import Mapping

from .cells import canonical_json, cell_name, cell_seed
from .check import checked
from .provenance import Provenance
from .schema import Row

__all__ = ["failed_row", "ok_rows"]


def ok_rows(
    suite: str,
    spec: Mapping[str, object],
    metrics: Mapping[str, float],
    *,
    method: str,
    rank: int | None,
    seconds: float,
    origin: Provenance,
    seed: int | None = None,
    message: str = "",
) -> list[Row]:
    """One row a metric, for one method at one rank.

    Args:
        suite: its name.
        spec: what the cell was to compute; its name is the hash of this.
        metrics: name -> value; NaN and infinities are values.
        method, rank: what adapted; ``rank`` None where the method has none.
        seconds: wall-clock time the method took.
        origin: from ``provenance(device)``.
        seed: of this row's random draws; None: the cell's own.
        message: what there is to say, e.g. what limits exactness.

    Raises:
        SpecError: an argument does not fit the schema; all faults at once.

    >>> from lorascope.records import provenance
    >>> rows = ok_rows("demo", {"width": 8}, {"error": 0.5}, method="stable", rank=2, seconds=0.1,
    ...                origin=provenance("cpu"))
    >>> rows[0]["metric"], rows[0]["value"], rows[0]["cell"] == cell_name({"width": 8})
    ('error', 0.5, True)
    """
    shared = _shared(suite, spec, method, rank, seconds, origin, seed)
    return checked(
        [{**shared, "metric": m, "value": value, "status": "ok", "message": message} for m, value in metrics.items()]
    )


def failed_row(
    suite: str,
    spec: Mapping[str, object],
    message: str,
    *,
    method: str,
    rank: int | None,
    seconds: float,
    origin: Provenance,
    seed: int | None = None,
) -> Row:
    """The row of a method that gave no result: a failure is a record too.

    Args:
        message: why; what UTF-8 cannot hold becomes a question mark, for the failure must not be lost over its wording.
        suite, spec, method, rank, seconds, origin, seed: as in ``ok_rows``.

    Raises:
        SpecError: an argument does not fit the schema; all faults at once.
    """
    shared = _shared(suite, spec, method, rank, seconds, origin, seed)
    text = message.encode(errors="replace").decode()
    return checked([{**shared, "metric": None, "value": None, "status": "failed", "message": text}])[0]


def _shared(
    suite: str,
    spec: Mapping[str, object],
    method: str,
    rank: int | None,
    seconds: float,
    origin: Provenance,
    seed: int | None,
) -> dict[str, object]:
    return {
        "suite": suite,
        "cell": cell_name(spec),
        "seed": cell_seed(spec) if seed is None else seed,
        "method": method,
        "rank": rank,
        "seconds": seconds,
        "version": origin.version,
        "commit": origin.commit,
        "device": origin.device,
        "spec": canonical_json(spec),
    }
