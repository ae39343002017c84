"""Runs -> the pages' text."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .._version import __version__
from ..records import SCHEMA_VERSION
from .charts import BOUND_AGAINST_MEASURED, Chart, charts
from .fields import Fields, all_fields, fields
from .headline import headline
from .payload import as_json, payload
from .points import natural
from .reported import reported
from .runs import Run, extra_keys
from .sparkline import sparkline
from .styles import styles
from .suites import place, title
from .tables import Table, bounds, certificates, exactness, origins, predicted

__all__ = ["Progress", "file_name", "pages"]

Progress = Callable[[float, str], None]
SCALES = ("paper", "medium", "smoke")  # the most telling first
CELLS = {"suite": "suite", "scale": "scale", "cell": "cell", "method": "method", "seed": "seed",
         "seconds": "seconds", "device": "device", "version": "version", "commit": "commit",
         "command": "command", "spec": "spec"}  # fmt: skip


@dataclass(frozen=True)
class _Suite:
    """One suite, ready to be told."""

    name: str
    runs: list[Run]
    rows: list[Fields]
    metrics: list[str]
    extra: list[str]
    charts: list[Chart]


def file_name(suite: str) -> str:
    """The page of a suite; no suite's name makes it one of the other pages.

    >>> file_name("fnn-depths")
    'suite-fnn-depths.html'
    """
    return f"suite-{suite}.html"


def pages(runs: Sequence[Run], source: str, progress: Progress) -> Iterator[tuple[str, str]]:
    """File names and their content, one after the other.

    Args:
        runs: of all suites, one at least.
        source: where the records lie, for the reader.
        progress: called with the share done and the page being made.

    Cost O(rows log rows).
    """
    templates = Environment(
        loader=PackageLoader("lorascope.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    by_suite: dict[str, list[Run]] = {}
    for run in runs:
        by_suite.setdefault(run.suite, []).append(run)
    suites = [_suite(name, by_suite[name]) for name in sorted(by_suite, key=place)]
    certified = [row for suite in suites for row in suite.rows if "measured" in row]
    shared: dict[str, Any] = {
        "suites": [(suite.name, file_name(suite.name)) for suite in suites],
        "version": __version__,
        "schema": SCHEMA_VERSION,
        "source": source,
        "has_bounds": bool(certified) or any(suite.name == "exactness" for suite in suites),
    }

    def page(template: str, content: Mapping[str, object], name: str) -> str:
        return templates.get_template(template).render({**shared, **content, "page": name})

    total = len(suites) + 3
    for done, suite in enumerate(suites):
        progress(done / total, suite.name)
        yield file_name(suite.name), page("suite.html", _suite_content(suite), suite.name)
    progress(len(suites) / total, "certificates")
    if shared["has_bounds"]:
        yield "bounds.html", page("bounds.html", _bounds_content(suites, certified), "bounds")
    progress((len(suites) + 1) / total, "provenance")
    yield "provenance.html", page("provenance.html", _provenance_content(runs), "provenance")
    progress((len(suites) + 2) / total, "overview")
    yield "index.html", page("index.html", _overview_content(suites), "index")


def _suite(name: str, runs: list[Run]) -> _Suite:
    runs = sorted(runs, key=_order)
    extra = extra_keys(runs)
    rows = all_fields(runs, extra)
    metrics = list(dict.fromkeys(metric for run in runs for metric in run.metrics))
    return _Suite(name, runs, rows, metrics, extra, charts(name, rows, metrics, extra))


def _order(run: Run) -> tuple[object, ...]:
    words = (run.scale, run.init, run.depths, run.line)
    return (*map(natural, words), run.seed, run.cell, -1 if run.rank is None else run.rank)


def _scales(runs: Sequence[Run]) -> list[str]:
    found = {run.scale for run in runs}
    return sorted(found, key=lambda scale: (SCALES.index(scale) if scale in SCALES else len(SCALES), scale))


def _counts(runs: Sequence[Run]) -> dict[str, Any]:
    cells = {(run.suite, run.cell) for run in runs}
    failed = {(run.suite, run.cell) for run in runs if run.failed}
    return {
        "cells": len(cells),
        "ok": len(cells) - len(failed),
        "failed": len(failed),
        "runs": len(runs),
        "failed_runs": sum(run.failed for run in runs),
        "seconds": sum(run.seconds for run in runs),
        "scales": _scales(runs),
    }


def _suite_content(suite: _Suite) -> dict[str, Any]:
    return {
        "name": suite.name,
        "title": title(suite.name),
        "counts": _counts(suite.runs),
        "headline": _headline(suite),
        "charts": suite.charts,
        "predicted": _predicted(suite),
        "data": as_json(payload(suite.rows, suite.charts, suite.metrics, suite.extra, beside=_beside(suite))),
    }


def _predicted(suite: _Suite) -> Table | None:
    """Of real tasks alone, at the most telling scale."""
    if not suite.runs or suite.runs[0].spec.get("measure") != "glue":
        return None
    scale = _scales(suite.runs)[0]
    found = predicted([run for run in suite.runs if run.scale == scale])
    return found if found.rows else None


def _beside(suite: _Suite) -> list[dict[str, Any]]:
    return reported(suite.charts[0], suite.runs) if suite.charts else []


def _headline(suite: _Suite) -> str:
    return headline(_of_scale(suite)[0], _of_scale(suite)[1]) if suite.charts else "No run gave a result."


def _of_scale(suite: _Suite) -> tuple[Chart, list[Fields]]:
    """The suite's first plot, and its rows of the most telling scale."""
    scale = _scales(suite.runs)[0]
    return suite.charts[0], [row for row in suite.rows if row["scale"] == scale]


def _picture(suite: _Suite) -> Markup:
    if not suite.charts:
        return Markup("")
    chart, rows = _of_scale(suite)
    return sparkline(chart, rows, styles(chart, rows))


def _overview_content(suites: Sequence[_Suite]) -> dict[str, Any]:
    runs = [run for suite in suites for run in suite.runs]
    return {
        "counts": _counts(runs),
        "told": [
            {
                "name": suite.name,
                "title": title(suite.name),
                "file": file_name(suite.name),
                "counts": _counts(suite.runs),
                "told_scale": _scales(suite.runs)[0],
                "headline": _headline(suite),
                "picture": _picture(suite),
            }
            for suite in suites
        ],
    }


def _bounds_content(suites: Sequence[_Suite], certified: Sequence[Fields]) -> dict[str, Any]:
    by_name = {suite.name: suite for suite in suites}
    exact = by_name.get("exactness")
    apart = [
        row | {"target": run.spec.get("target_depth", "-")} for run, row in zip(exact.runs, exact.rows, strict=True)
    ] if exact else []  # fmt: skip
    drawn = [BOUND_AGAINST_MEASURED] if certified else []
    names = ("error_bound", "measured", "looseness")
    heads = {
        "suite": "suite", "scale": "scale", "init": "frozen", "depths": "depths", "seed": "seed", "line": "method",
        "rank": "rank", "measured": "measured", "error_bound": "bound", "looseness": "bound / measured", "cell": "cell",
        "message": "message",
    }  # fmt: skip
    return {
        "exactness": exactness(apart) if apart else None,
        "certificates": certificates(by_name["certificates"].rows) if "certificates" in by_name else None,
        "bounds": bounds(certified),
        "charts": drawn,
        "data": as_json(payload(certified, drawn, names, (), heads)),
    }


def _provenance_content(runs: Sequence[Run]) -> dict[str, Any]:
    cells: dict[tuple[str, str], Fields] = {}
    for run in runs:
        known = cells.setdefault((run.suite, run.cell), fields(run) | {"seconds": 0.0, "spec": run.spec_text})
        known["seconds"] += run.seconds
    return {
        "counts": _counts(runs),
        "origins": origins(runs),
        "data": as_json(payload(list(cells.values()), (), (), (), CELLS)),
    }
