"""What is measured of an adapted network, whichever way it came to be."""

from collections.abc import Sequence
from typing import Any

import torch

from ...adaptation import Adaptation
from ...theory import Model, lora_parameters, transformer_parameters
from ..networks import fresh_inputs, mean_squared_error
from .measured import Spec

__all__ = ["evaluate", "lora_metrics"]


def evaluate(spec: Spec, found: Adaptation[Any], target: Model) -> dict[str, float]:
    """Errors on fresh inputs, in float64 whatever the steps computed in."""
    model = found.model.to("cpu", torch.float64)
    return {"test_mse": mean_squared_error(model, target, fresh_inputs(spec))}


def lora_metrics(spec: Spec, found: Adaptation[Any], target: Model, ranks: Sequence[int]) -> dict[str, float]:
    """Errors, and the entries that adapters of these ranks have, one a layer, whether they use them or not."""
    if spec["model"] == "transformer":
        entries = transformer_parameters(spec["width"], spec["heads"], spec["frozen_depth"], max(ranks))
    else:
        entries = lora_parameters(spec["width"], ranks)
    return evaluate(spec, found, target) | {
        "parameters": float(entries),
        "bias_parameters": float(sum(value.numel() for value in found.biases.values())),
    }
