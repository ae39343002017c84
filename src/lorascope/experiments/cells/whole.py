"""Cells of what LoRA is compared with: parameters that are trained whole."""

from typing import Any

from ... import tune
from ...adaptation import Adaptation
from ...theory import Model
from .evaluate import evaluate
from .measured import Measured, Spec, row
from .notes import notes
from .training import Watch, grid_metrics, prepared, step_settings

__all__ = ["biases", "full", "last_layers"]


def last_layers(spec: Spec, frozen: Model, target: Model, device: str) -> list[Measured]:
    """The last layers trained whole, at all rates in one batched program."""
    watch = Watch()
    pair = prepared(spec, frozen, target, device)
    found = tune.last_layers(*pair, spec["layers"], observe=watch, tune_bias=spec["tune_bias"], **step_settings(spec))
    return [_row_of(spec, found, target, watch, notes(spec, pair[0], found, target))]


def full(spec: Spec, frozen: Model, target: Model, device: str) -> list[Measured]:
    """Every weight trained whole, likewise."""
    watch = Watch()
    pair = prepared(spec, frozen, target, device)
    found = tune.full(*pair, observe=watch, tune_bias=spec["tune_bias"], **step_settings(spec))
    return [_row_of(spec, found, target, watch, notes(spec, pair[0], found, target))]


def biases(spec: Spec, frozen: Model, target: Model, device: str) -> list[Measured]:
    """The biases trained and nothing else, likewise."""
    watch = Watch()
    pair = prepared(spec, frozen, target, device)
    found = tune.biases(*pair, observe=watch, **step_settings(spec))
    return [_row_of(spec, found, target, watch, notes(spec, pair[0], found, target))]


def _row_of(spec: Spec, found: Adaptation[Any], target: Model, watch: Watch, message: str) -> Measured:
    weights = dict(found.model.named_parameters())
    metrics = (
        grid_metrics(spec, watch)
        | evaluate(spec, found, target)
        | {
            "parameters": float(sum(weights[name].numel() for name in found.adapters)),
            "bias_parameters": float(sum(value.numel() for value in found.biases.values())),
        }
    )
    return row(spec, None, metrics, found.seconds, message)
