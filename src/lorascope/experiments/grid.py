"""A suite and a scale -> the cells to compute."""

from itertools import product
from typing import Any

from ..errors import SpecError
from .spec import TASK_MEASURE, Depths, Method, Scale, ScaleName, Suite, TaskSuite
from .spec.keys import CLOSED_FORM, SCALE_KEYS, SUITE_KEYS, TRAINED
from .task_grid import task_cells, task_effort

__all__ = ["effort", "grid"]

Spec = dict[str, Any]
APART = ("ranks", "levels", "train_inputs_per_layer")  # keys of the table that go into cells in their own way
STEPS = {"lr", "weight_decay", "steps", "batch", "validate_every", "dtype"}


def grid(suite: Suite | TaskSuite, scale: ScaleName) -> list[Spec]:
    """The suite's cells at one scale, each a plain mapping that says all that its numbers depend on.

    A cell is one pair of networks and one way to adapt, at all ranks: they run as one batched program.

    Raises:
        SpecError: the suite has no such scale.

    >>> from lorascope.experiments import load_suite
    >>> [spec["method"] for spec in grid(load_suite("linear"), "smoke")[:3]]
    ['gradient', 'paper', 'stable']
    """
    if scale not in suite.scales:
        raise SpecError(f"scale must be one of {', '.join(suite.scales)} for the suite {suite.name}, got {scale!r}")
    if isinstance(suite, TaskSuite):
        return task_cells(suite, scale, suite.scales[scale])
    extent = suite.scales[scale]
    cells: list[Spec] = []
    shapes = product(extent.widths or [suite.width], extent.depths or suite.depths)
    starts = _starts(suite, extent)
    for (width, depths), start, seed, method in product(shapes, starts, extent.seeds, suite.methods):
        pair: Spec = {"scale": scale, **_pair(suite, extent, width, depths, seed), **start, "method": method}
        cells += [pair | way for way in _ways(suite, extent, pair, method)]
    return cells


def effort(spec: Spec) -> float:
    """Roughly the seconds that a cell takes on one core, for the time left; only proportions matter."""
    if spec.get("measure") == TASK_MEASURE:
        return task_effort(spec)
    count = {key: len(value) if isinstance(value, list) else 1 for key, value in spec.items()}
    method, depth, ranks = spec["method"], spec["frozen_depth"], count.get("ranks", 1)
    transformer = spec["model"] == "transformer"
    if method in TRAINED:
        step = 1e-5 * spec["batch"] if transformer else 2e-5  # of one run, a layer or block
        return ranks * count["lr"] * count["weight_decay"] * (0.03 + step * spec["steps"] * depth)
    if method == "refined" and spec["activation"] == "relu":
        return ranks * (12.0 if spec["profile"] == "full" else 4.0) * (2 if transformer else 1)
    # segments of many layers, and wide ones, take longer to make exact
    ratio, width = depth / spec["target_depth"], spec["width"] / 16
    each = {"paper": 0.01, "stable": 0.05 * max(width, 1) ** 3 * ratio}.get(method, 0.05)
    return ranks * depth * each * (8 if transformer else 1)


def _starts(suite: Suite, extent: Scale) -> list[Spec]:
    """What frozen networks are."""
    levels = extent.levels or [suite.pretrain.level]
    trained: list[Spec] = [{"pretrain": suite.pretrain.model_dump() | {"level": level}} for level in levels]
    starts = {"random": [Spec()], "pretrained": trained}
    return [{"init": init} | start for init in extent.inits or suite.inits for start in starts[init]]


def _pair(suite: Suite, extent: Scale, width: int, depths: Depths, seed: int) -> Spec:
    pair: Spec = {
        "model": depths.model or suite.model,
        "width": width,
        "activation": suite.activation,
        "bias": suite.bias,
        "target_depth": depths.target,
        "frozen_depth": depths.frozen,
        "seed": seed,
        "test_inputs": extent.test_inputs,
    }
    # what is usual goes without saying
    return pair if suite.measure == "error" else pair | {"measure": suite.measure}


def _ways(suite: Suite, extent: Scale, pair: Spec, method: Method) -> list[Spec]:
    """What cells of one method add to the pair of networks: no more than it depends on."""
    ways = _ranks(extent, method) if method in ("gradient", *CLOSED_FORM) and suite.measure != "exactness" else [{}]
    if method == "refined":
        ways = [way | {"profile": extent.profile} for way in ways]
    if method in TRAINED and method != "biases":
        ways = [way | {"tune_bias": tuned} for way, tuned in product(ways, suite.tune_bias)]
    if method in TRAINED:
        ways = [way | extent.model_dump(include=STEPS) for way in ways]
    for table, keys in ((suite, SUITE_KEYS), (extent, SCALE_KEYS)):
        for name, key in keys.items():
            value = getattr(table, name)
            if name in APART or value is None or not key.serves(str(pair["model"]), method, suite.measure):
                continue
            ways = [way | {key.cell or name: one} for way, one in product(ways, value if key.each else [value])]
    if suite.train_inputs_per_layer is not None:
        ways = [way | {"train_inputs": suite.train_inputs_per_layer * pair["target_depth"]} for way in ways]
    return [_needed(way) for way in ways]


def _needed(way: Spec) -> Spec:
    """Without the noise of starts that have none."""
    idle = "start" in way and way["start"] != "constructed"
    return {key: value for key, value in way.items() if key != "start_noise" or not idle}


def _ranks(extent: Scale, method: Method) -> list[Spec]:
    """All ranks together, and each spread over the layers alone."""
    together: list[Spec] = [{"ranks": list(extent.ranks)}] if extent.ranks else []
    spread: list[Spec] = [{"allocation": list(ranks)} for ranks in extent.allocations]
    return together + spread if method == "gradient" else together
