"""What a cell computes: a spec in, one plain mapping a method and rank out."""

import copy
import math
from collections.abc import Callable, Mapping
from itertools import product
from time import perf_counter
from typing import Any, TypedDict

import torch
from torch import Tensor

from .. import construct, tune
from ..adaptation import Adaptation
from ..errors import LorascopeError, SpecError
from ..linalg import threads_for
from ..models import FNN
from ..records import cell_seed
from ..theory import last_layers_parameters, lora_parameters
from .networks import draw_pair, fresh_inputs, generator_for, mean_squared_error

__all__ = ["Measured", "cell"]

Spec = Mapping[str, Any]


class Measured(TypedDict):
    """One method at one rank.

    ``rank`` is None where adapters have none or several; ``metrics`` is empty, and ``message`` says why, where the
    method gave no result. Metrics: ``test_mse`` over fresh inputs and coordinates; ``parameters``, the entries of the
    matrices that are trained, and ``bias_parameters``; of gradient methods ``validation_mse``, and the ``lr`` and
    ``weight_decay`` that had the lowest; of constructions ``error_bound`` from the certificate.
    """

    method: str
    rank: int | None
    metrics: dict[str, float]
    seconds: float
    message: str


def cell(spec: Spec, device: str = "cpu") -> list[Measured]:
    """All that a cell measures; it depends on the spec alone, not on order, batch or worker.

    Args:
        spec: from :func:`lorascope.experiments.grid`.
        device: of gradient steps; constructions run on the CPU.

    Raises:
        SpecError: an unknown method.
        LorascopeError: the whole cell cannot be computed; where one rank of several cannot, it has a mapping without
            metrics.
    """
    methods: dict[str, Callable[[Spec, FNN, FNN, str], list[Measured]]] = {
        "gradient": _gradient if "ranks" in spec else _allocation,
        "last-layers": _last_layers,
        "paper": _constructed,
        "stable": _constructed,
        "refined": _refined,
    }
    if spec["method"] not in methods:
        raise SpecError(f"method must be one of {', '.join(methods)}, got {spec['method']!r}")
    with threads_for(spec["width"]):
        frozen, target = draw_pair(spec)
        return methods[spec["method"]](spec, frozen, target, device)


class _Watch:
    """Lowest held-out loss of every run, which is that of the parameters it returns."""

    def __init__(self) -> None:
        self.lowest: Tensor | None = None

    def __call__(self, _step: int, losses: Tensor) -> None:
        seen = torch.where(losses.isfinite(), losses, math.inf).double().cpu()
        self.lowest = seen if self.lowest is None else torch.minimum(self.lowest, seen)

    def best(self, runs: range) -> int:
        assert self.lowest is not None
        return runs[int(self.lowest[runs.start : runs.stop].argmin())]


def _gradient(spec: Spec, frozen: FNN, target: FNN, device: str) -> list[Measured]:
    """LoRA at all ranks and rates in one batched program."""
    rates = list(product(spec["lr"], spec["weight_decay"]))
    members = [
        tune.Member(
            rank, lr, decay, spec["tune_bias"], cell_seed({"draw": "start", "rank": rank, "seed": spec["seed"]})
        )
        for rank in spec["ranks"]
        for lr, decay in rates
    ]
    watch, started = _Watch(), perf_counter()
    found = tune.ensemble(
        *_prepared(spec, frozen, target, device),
        members,
        spec["steps"],
        spec["batch"],
        generator_for("training", **spec),
        spec["validate_every"],
        observe=watch,
    )
    seconds = (perf_counter() - started) / len(spec["ranks"])  # ranks run together, so each has its share
    rows: list[Measured] = []
    for index, rank in enumerate(spec["ranks"]):
        best = watch.best(range(index * len(rates), (index + 1) * len(rates)))
        metrics = _trained_metrics(watch, best, rates[best - index * len(rates)])
        metrics |= _lora_metrics(spec, found[best], target, [rank] * spec["frozen_depth"])
        rows.append(_row(spec, rank, metrics, seconds))
    return rows


def _allocation(spec: Spec, frozen: FNN, target: FNN, device: str) -> list[Measured]:
    """LoRA with a rank for each layer, at all rates in one batched program."""
    ranks = {f"layers.{index}.weight": rank for index, rank in enumerate(spec["allocation"])}
    watch = _Watch()
    found = tune.lora(*_prepared(spec, frozen, target, device), ranks=ranks, observe=watch, **_steps(spec))
    metrics = _grid_metrics(spec, watch) | _lora_metrics(spec, found, target, spec["allocation"])
    return [_row(spec, None, metrics, found.seconds)]


def _last_layers(spec: Spec, frozen: FNN, target: FNN, device: str) -> list[Measured]:
    """The last layers trained whole, at all rates in one batched program."""
    watch = _Watch()
    found = tune.last_layers(
        *_prepared(spec, frozen, target, device),
        spec["layers"],
        observe=watch,
        tune_bias=spec["tune_bias"],
        **_steps(spec),
    )
    metrics = _grid_metrics(spec, watch) | {
        "test_mse": _test_mse(spec, found, target),
        "parameters": float(last_layers_parameters(spec["width"], spec["layers"])),
        "bias_parameters": float(spec["tune_bias"] * spec["width"] * spec["layers"]),
    }
    return [_row(spec, None, metrics, found.seconds)]


def _constructed(spec: Spec, frozen: FNN, target: FNN, _device: str) -> list[Measured]:
    """A closed form at each rank, with all the time it wants: how fast the machine is must not decide the result."""
    rows: list[Measured] = []
    for rank in spec["ranks"]:
        started = perf_counter()
        try:
            if spec["method"] == "paper":
                found = construct.paper(frozen, target, rank)
            else:
                found = construct.stable(frozen, target, rank, seconds=math.inf)
        except LorascopeError as error:
            rows.append(_row(spec, rank, {}, perf_counter() - started, str(error)))
            continue
        rows.append(_construction_row(spec, rank, found, target))
    return rows


def _refined(spec: Spec, frozen: FNN, target: FNN, _device: str) -> list[Measured]:
    """The best that is known at every rank, each starting from the one below as well."""
    source = generator_for("refinement", **spec)
    found = construct.refined_path(
        frozen, target, spec["ranks"], seconds=math.inf, generator=source, profile=spec["profile"]
    )
    return [_construction_row(spec, rank, one, target) for rank, one in zip(spec["ranks"], found, strict=True)]


def _prepared(spec: Spec, frozen: FNN, target: FNN, device: str) -> tuple[FNN, FNN]:
    dtype = getattr(torch, spec["dtype"])
    return copy.deepcopy(frozen).to(device, dtype), copy.deepcopy(target).to(device, dtype)


def _steps(spec: Spec) -> dict[str, Any]:
    settings = {key: spec[key] for key in ("lr", "weight_decay", "steps", "batch", "validate_every")}
    return settings | {"generator": generator_for("training", **spec)}


def _trained_metrics(watch: _Watch, run: int, rates: tuple[float, float]) -> dict[str, float]:
    assert watch.lowest is not None
    return {"validation_mse": float(watch.lowest[run]), "lr": rates[0], "weight_decay": rates[1]}


def _grid_metrics(spec: Spec, watch: _Watch) -> dict[str, float]:
    rates = list(product(spec["lr"], spec["weight_decay"]))
    best = watch.best(range(len(rates)))
    return _trained_metrics(watch, best, rates[best])


def _lora_metrics(spec: Spec, found: Adaptation[Any], target: FNN, ranks: list[int]) -> dict[str, float]:
    return {
        "test_mse": _test_mse(spec, found, target),
        "parameters": float(lora_parameters(spec["width"], ranks)),
        "bias_parameters": float(sum(value.numel() for value in found.biases.values())),
    }


def _construction_row(spec: Spec, rank: int, found: Adaptation[Any], target: FNN) -> Measured:
    metrics = _lora_metrics(spec, found, target, [rank] * spec["frozen_depth"])
    metrics["error_bound"] = found.certificate.error_bound
    return _row(spec, rank, metrics, found.seconds, " ".join(found.certificate.conditions))


def _test_mse(spec: Spec, found: Adaptation[Any], target: FNN) -> float:
    """In float64, whatever the steps computed in."""
    return mean_squared_error(found.model.to("cpu", torch.float64), target, fresh_inputs(spec))


def _row(spec: Spec, rank: int | None, metrics: dict[str, float], seconds: float, message: str = "") -> Measured:
    return {"method": spec["method"], "rank": rank, "metrics": metrics, "seconds": seconds, "message": message}
