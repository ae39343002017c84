"""What is measured of an adapted network, whichever way it came to be."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...adaptation import Adaptation
from ...theory import Model, lora_parameters, transformer_parameters
from ..attack import attacked_error, error_norms
from ..networks import fresh_inputs, generator_for, mean_squared_error
from .data import objective_of, training_inputs
from .labels import accuracy, divergence
from .measured import Spec

__all__ = ["evaluate", "lora_metrics"]


def evaluate(spec: Spec, found: Adaptation[Any], target: Model) -> dict[str, float]:
    """What the suite measures of every adapted network."""
    return MEASURES[spec.get("measure", "error")](spec, found, target)


def lora_metrics(spec: Spec, found: Adaptation[Any], target: Model, ranks: Sequence[int]) -> dict[str, float]:
    """The same, and the entries that adapters of these ranks have, one a layer, whether they use them or not."""
    if spec["model"] == "transformer":
        entries = transformer_parameters(spec["width"], spec["heads"], spec["frozen_depth"], max(ranks))
    else:
        entries = lora_parameters(spec["width"], ranks)
    return evaluate(spec, found, target) | {
        "parameters": float(entries),
        "bias_parameters": float(sum(value.numel() for value in found.biases.values())),
    }


def _error(spec: Spec, found: Adaptation[Any], target: Model) -> dict[str, float]:
    """On fresh inputs, and on what else the cell speaks of, in float64 whatever the steps computed in."""
    model, inputs = found.model.to("cpu", torch.float64), fresh_inputs(spec)
    metrics = _on(spec, model, target, inputs)
    if "shift" in spec:
        metrics |= {
            f"{name}_shifted": value for name, value in _on(spec, model, target, spec["shift"] * inputs).items()
        }
    if "train_inputs" in spec:
        metrics["train_mse"] = mean_squared_error(model, target, training_inputs(spec))
    return metrics


def _on(spec: Spec, model: Model, target: Model, inputs: Tensor) -> dict[str, float]:
    """The error on these inputs, and what the task is about."""
    metrics, task = {"test_mse": mean_squared_error(model, target, inputs)}, objective_of(spec)
    if task == "mse":
        return metrics
    with torch.no_grad():
        outputs, wanted = model(inputs), target(inputs)
    return metrics | {
        "test_accuracy": accuracy(task, outputs, wanted),
        "test_kl": divergence(task, outputs, wanted),
    }


def _certificate(spec: Spec, found: Adaptation[Any], target: Model) -> dict[str, float]:
    """What is certified of Euclidean norms of the output error, beside what is measured and what an attack finds."""
    certificate = found.certificate
    metrics = {"error_bound": certificate.error_bound}
    if certificate.expected_error_bound is not None:
        metrics["expected_error_bound"] = certificate.expected_error_bound
    metrics |= _error(spec, found, target)
    with torch.no_grad():
        errors = error_norms(found.model.to("cpu", torch.float64), target, fresh_inputs(spec))
    source = generator_for("attack", **spec)
    attacked = attacked_error(found.model, target, certificate.domain, source, tokens=spec.get("tokens"))
    return metrics | {
        "mean_error": float(errors.mean()),
        "largest_error": float(errors.max()),
        "attacked_error": attacked,
    }


def _exactness(spec: Spec, found: Adaptation[Any], target: Model) -> dict[str, float]:
    """How far off the target the outputs are, each network evaluated in its own precision."""
    dtype = next(target.parameters()).dtype
    inputs = fresh_inputs(spec).to(dtype)
    with torch.no_grad():
        wanted = target(inputs).double()
        error = found.model(inputs).double() - wanted
    updates = [float(torch.linalg.matrix_norm(one.delta.double(), 2).max()) for one in found.adapters.values()]
    return {
        "test_mse": float(error.square().mean()),
        "relative_error": float(error.norm() / wanted.norm()),
        "residual": found.certificate.residual,
        "largest_update": max(updates, default=0.0),
        "exact": float(found.certificate.exact),
    }


MEASURES: dict[str, Callable[[Spec, Adaptation[Any], Model], dict[str, float]]] = {
    "error": _error,
    "certificate": _certificate,
    "exactness": _exactness,
    "proximity": _error,
}
