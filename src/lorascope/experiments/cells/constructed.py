"""Cells of the constructions."""

import math
from time import perf_counter
from typing import Any

from ... import construct
from ...adaptation import Adaptation
from ...errors import LorascopeError
from ...theory import Model, rank_needed
from ..networks import generator_for, sampler_for
from .evaluate import lora_metrics
from .measured import Measured, Spec, row

__all__ = ["constructed", "refined"]


def constructed(spec: Spec, frozen: Model, target: Model, _device: str) -> list[Measured]:
    """A closed form at each rank, with all the time it wants: how fast the machine is must not decide the result."""
    rows: list[Measured] = []
    for rank in _ranks(spec, frozen, target):
        started = perf_counter()
        sampler = sampler_for(spec, generator_for("samples", **spec))
        try:
            if spec["method"] == "paper":
                found = construct.paper(frozen, target, rank, sampler=sampler)
            else:
                found = construct.stable(frozen, target, rank, sampler=sampler, seconds=math.inf)
        except LorascopeError as error:
            rows.append(row(spec, rank, {}, perf_counter() - started, str(error)))
            continue
        rows.append(_row_of(spec, rank, found, target))
    return rows


def refined(spec: Spec, frozen: Model, target: Model, _device: str) -> list[Measured]:
    """The best that is known at every rank, each starting from the one below as well."""
    source = generator_for("refinement", **spec)
    found = construct.refined_path(
        frozen,
        target,
        spec["ranks"],
        sampler=sampler_for(spec, source),
        seconds=math.inf,
        generator=source,
        profile=spec["profile"],
    )
    return [_row_of(spec, rank, one, target) for rank, one in zip(spec["ranks"], found, strict=True)]


def _ranks(spec: Spec, frozen: Model, target: Model) -> list[int]:
    """Those of the suite; where it names none, the one needed, in the paper's own way for the paper's construction."""
    if "ranks" in spec:
        return spec["ranks"]
    need = rank_needed(frozen, target)
    paper = need.paper_uniform if spec["method"] == "paper" else None
    return [need.uniform if paper is None else paper]


def _row_of(spec: Spec, rank: int, found: Adaptation[Any], target: Model) -> Measured:
    metrics = lora_metrics(spec, found, target, [rank] * spec["frozen_depth"])
    metrics["error_bound"] = found.certificate.error_bound
    return row(spec, rank, metrics, found.seconds, " ".join(found.certificate.conditions))
