"""Cells of LoRA by gradient steps."""

from time import perf_counter

from ... import tune
from ...records import cell_seed
from ...theory import Model
from ..networks import generator_for, sampler_for
from .evaluate import lora_metrics
from .measured import Measured, Spec, row
from .notes import notes
from .training import Watch, grid_metrics, prepared, rates_of, step_settings, trained_metrics

__all__ = ["allocation", "gradient"]


def gradient(spec: Spec, frozen: Model, target: Model, device: str) -> list[Measured]:
    """LoRA at all ranks and rates in one batched program."""
    rates = rates_of(spec)
    members = [
        tune.Member(
            rank, lr, decay, spec["tune_bias"], cell_seed({"draw": "start", "rank": rank, "seed": spec["seed"]})
        )
        for rank in spec["ranks"]
        for lr, decay in rates
    ]
    watch, started, source = Watch(), perf_counter(), generator_for("training", **spec)
    pair = prepared(spec, frozen, target, device)
    found = tune.ensemble(
        *pair,
        members,
        spec["steps"],
        spec["batch"],
        source,
        spec["validate_every"],
        sampler=sampler_for(spec, source),
        observe=watch,
    )
    seconds = (perf_counter() - started) / len(spec["ranks"])  # ranks run together, so each has its share
    rows: list[Measured] = []
    for index, rank in enumerate(spec["ranks"]):
        best = watch.best(range(index * len(rates), (index + 1) * len(rates)))
        metrics = trained_metrics(watch, best, rates[best - index * len(rates)])
        metrics |= lora_metrics(spec, found[best], target, [rank] * spec["frozen_depth"])
        rows.append(row(spec, rank, metrics, seconds, notes(spec, pair[0], found[best], target)))
    return rows


def allocation(spec: Spec, frozen: Model, target: Model, device: str) -> list[Measured]:
    """LoRA with a rank for each layer, at all rates in one batched program."""
    ranks = {f"layers.{index}.weight": rank for index, rank in enumerate(spec["allocation"])}
    watch = Watch()
    pair = prepared(spec, frozen, target, device)
    found = tune.lora(*pair, ranks=ranks, observe=watch, **step_settings(spec))
    metrics = grid_metrics(spec, watch) | lora_metrics(spec, found, target, spec["allocation"])
    return [row(spec, None, metrics, found.seconds, notes(spec, pair[0], found, target))]
