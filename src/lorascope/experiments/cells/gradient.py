"""Cells of LoRA by gradient steps."""

from collections.abc import Sequence
from time import perf_counter

import torch

from ... import tune
from ...records import cell_seed
from ...theory import Model
from ..networks import fresh_inputs, generator_for, mean_squared_error
from .data import curve_steps, starts_of, training_data
from .evaluate import lora_metrics
from .measured import Measured, Spec, row
from .notes import notes
from .training import Watch, grid_metrics, prepared, rates_of, step_settings, trained_metrics

__all__ = ["allocation", "gradient"]


def gradient(spec: Spec, frozen: Model, target: Model, device: str) -> list[Measured]:
    """LoRA at all ranks and rates in one batched program."""
    rates, started = rates_of(spec), perf_counter()
    starts = starts_of(spec, frozen, target)
    members = [_member(spec, rank, lr, decay, starts[rank]) for rank in spec["ranks"] for lr, decay in rates]
    watch, source = Watch(curve_steps(spec)), generator_for("training", **spec)
    pair = prepared(spec, frozen, target, device)
    found = tune.ensemble(
        *pair,
        members,
        spec["steps"],
        spec["batch"],
        source,
        spec["validate_every"],
        observe=watch,
        **training_data(spec, source),
    )
    seconds = (perf_counter() - started) / len(spec["ranks"])  # ranks run together, so each has its share
    before = _start_metrics(spec, pair, members[:: len(rates)], target) if "start" in spec else {}
    rows: list[Measured] = []
    for index, rank in enumerate(spec["ranks"]):
        best = watch.best(range(index * len(rates), (index + 1) * len(rates)))
        metrics = trained_metrics(spec, watch, best, rates[best - index * len(rates)])
        metrics |= before.get(rank, {}) | watch.curve(best)
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


def _member(spec: Spec, rank: int, lr: float, decay: float, start: tune.Start) -> tune.Member:
    seed = cell_seed({"draw": "start", "rank": rank, "seed": spec["seed"]})
    return tune.Member(rank, lr, decay, spec["tune_bias"], seed, start=start)


def _start_metrics(
    spec: Spec, pair: tuple[Model, Model], members: Sequence[tune.Member], target: Model
) -> dict[int, dict[str, float]]:
    """The error before any step, rank by rank."""
    inputs = fresh_inputs(spec)
    found = tune.ensemble(*pair, members, 0, spec["batch"])
    errors = [mean_squared_error(one.model.to("cpu", torch.float64), target, inputs) for one in found]
    return {member.rank: {"start_mse": error} for member, error in zip(members, errors, strict=True)}
