"""Records of every suite there is, small and invented: what pages must cope with, not what networks do."""

import math
from functools import cache
from itertools import chain, product

from lorascope.records import Provenance, failed_row, ok_rows, write_part

ORIGIN = Provenance("0.1.0", "0123456789abcdef0123456789abcdef01234567", "cpu")
RANKS = (1, 4, 8)
HOSTILE = "</script><script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"


def spec(method, *, init="random", depths=(1, 2), seed=0, scale="smoke", **more):
    pair = {
        "scale": scale, "model": "fnn", "width": 16, "activation": "relu", "bias": True, "target_depth": depths[0],
        "frozen_depth": depths[1], "init": init, "seed": seed, "test_inputs": 5000, "method": method,
    }  # fmt: skip
    if init == "pretrained" and "pretrain" not in more:
        pair["pretrain"] = {"lr": 1e-3, "steps": 1000, "level": 1 / 3}
    return pair | more


def error(method, rank, depths, seed):
    """Falls with the rank; constructions end at rounding, training at a floor; seeds differ."""
    share = rank * depths[1] / (16 * depths[0])
    scale = {"gradient": 0.6, "paper": 1.5, "stable": 1.0, "refined": 0.5}.get(method, 0.8) * (1 + 0.1 * seed)
    floor = {"gradient": 1e-5, "paper": 1e-9}.get(method, 1e-29)
    return max(0.2 * scale * max(1 - share, 0) ** 2, floor * scale)


def rows_of(suite, one, rank, metrics, message="", seconds=0.25):
    shared = {"method": one["method"], "rank": rank, "seconds": seconds, "origin": ORIGIN, "message": message}
    return ok_rows(suite, one, metrics, **shared)


METHODS = ("gradient", "paper", "stable", "refined")
INITS = ("random", "pretrained")


def curve_cells(suite="fnn", *, scale="smoke", ranks=RANKS, seeds=(0, 1, 2), inits=INITS, methods=METHODS, extra=None):
    """Cells of the suites with an error at every rank."""
    for init, depth, seed, method in product(inits, ((1, 2), (2, 4)), seeds, methods):
        one = spec(method, init=init, depths=depth, seed=seed, scale=scale, ranks=list(ranks))
        if method == "gradient":
            one |= {"tune_bias": True, "lr": [1e-2, 1e-3], "weight_decay": [0.0], "steps": 1000, "batch": 256}
        rows = []
        for rank in ranks:
            mse = error(method, rank, depth, seed)
            metrics = {"test_mse": mse, "parameters": 32.0 * rank * depth[1], "bias_parameters": 16.0 * depth[1]}
            if method == "gradient":
                metrics |= {"validation_mse": mse, "lr": 1e-2, "weight_decay": 0.0}
            else:
                metrics["error_bound"] = 3 * math.sqrt(16 * mse)
            message = "one batched program on the CPU" if method == "gradient" else "Rank 1 is below the rank needed."
            rows += rows_of(suite, one, rank, metrics | (extra(mse) if extra else {}), message)
        yield rows


def entries_cells():
    for seed, tuned, rank in product((0, 1), (True, False), RANKS):
        one = spec("gradient", seed=seed, tune_bias=tuned, ranks=[rank])
        biases = 32.0 if tuned else 0.0
        mse = error("gradient", rank, (1, 2), seed) * (1 if tuned else 2)
        yield rows_of("bias", one, rank, {"test_mse": mse, "parameters": 64.0 * rank, "bias_parameters": biases})
    for seed, layers in product((0, 1), (1, 4, 7)):
        one = spec("last-layers", depths=(1, 8), seed=seed, layers=layers)
        metrics = {"test_mse": 0.2 / layers, "parameters": 256.0 * layers, "bias_parameters": 16.0 * layers}
        yield rows_of("final-layers", one, None, metrics)
    for seed, rank in product((0, 1), RANKS):
        one = spec("gradient", depths=(1, 8), seed=seed, ranks=[rank])
        mse = error("gradient", rank, (1, 2), seed)
        metrics = {"test_mse": mse, "parameters": 256.0 * rank, "bias_parameters": 128.0}
        yield rows_of("final-layers", one, rank, metrics)
    for method, seed in product(("full", "biases", "last-layers", "gradient"), (0, 1)):
        sizes = {"full": (0.0001, 512.0), "biases": (0.15, 0.0), "last-layers": (0.1, 256.0), "gradient": (0.02, 256.0)}
        mse, entries = sizes[method]
        metrics = {"test_mse": mse * (1 + seed / 5), "parameters": entries, "bias_parameters": 32.0}
        more = {"last-layers": {"layers": 1}, "gradient": {"ranks": [4]}}.get(method, {})
        yield rows_of("methods", spec(method, seed=seed, **more), 4 if method == "gradient" else None, metrics)


def other_axes_cells():
    for seed, allocation in product((0, 1), ([8, 8, 8, 8], [5, 7, 9, 11], [11, 9, 7, 5])):
        one = spec("gradient", depths=(2, 4), seed=seed, allocation=allocation)
        metrics = {"test_mse": 1e-3 * (1 + seed) * allocation[0], "parameters": 1024.0, "bias_parameters": 64.0}
        yield rows_of("rank-allocation", one, None, metrics)
    for depth, seed in product(range(2, 9), (0, 1)):
        one = spec("gradient", depths=(1, depth), seed=seed, ranks=list(RANKS))
        rows = [rows_of("depth", one, rank, {"test_mse": (1 + seed) / depth / rank, "parameters": 32.0 * rank * depth})
                for rank in RANKS]  # fmt: skip
        yield list(chain.from_iterable(rows))
    steps = sorted({round(10 ** (4 * place / 39)) for place in range(40)})
    for depths, seed in product(((1, 2), (2, 4)), (0, 1)):
        one = spec("gradient", depths=depths, seed=seed, ranks=list(RANKS), curve=True)
        rows = []
        for rank in RANKS:
            points = {f"curve_mse@{step}": 0.2 / (1 + step / 50) ** (rank / 8) * (1 + seed) for step in steps}
            rows += rows_of("convergence", one, rank, points | {"test_mse": points[f"curve_mse@{steps[-1]}"]})
        yield rows
    for level, seed, method in product((1.0, 0.5, 0.1), (0, 1), ("gradient", "refined")):
        more = {} if level == 1.0 else {"pretrain": {"lr": 1e-3, "steps": 1000, "level": level}}
        one = spec(method, init="random" if level == 1.0 else "pretrained", seed=seed, ranks=list(RANKS), **more)
        distance = level * 0.2 * (1 + seed / 10)
        rows = [rows_of("proximity", one, rank, {"test_mse": distance / 4**rank}) for rank in RANKS]
        own = {"frozen_mse": distance, "rank_needed": 8.0, "rank_enough": 4.0 if level < 1 else math.inf}
        rows.append(rows_of("proximity", one, None, own))
        yield list(chain.from_iterable(rows))
    for start, seed in product(("zero", "random", "constructed"), (0, 1)):
        one = spec("gradient", seed=seed, ranks=list(RANKS), start=start)
        rows = [rows_of("optimization-gap", one, rank, {"test_mse": error("gradient", rank, (1, 2), seed),
                                                        "start_mse": 0.2}) for rank in RANKS]  # fmt: skip
        yield list(chain.from_iterable(rows))


def bound_cells():
    for width, target, ratio, dtype, method, model in product(
        (4, 16), (1, 2), (2, 4), ("float32", "float64"), ("paper", "stable"), ("fnn", "transformer")
    ):
        depths = (target, target * ratio)
        one = spec(method, depths=depths) | {"width": width, "dtype": dtype, "model": model}
        wrong = method == "paper" and dtype == "float32"
        off = 1e-2 if wrong else 1e-7 if dtype == "float32" else 1e-15
        metrics = {"relative_error": off * width, "error_bound": off * 100, "residual": off, "largest_update": 3.0,
                   "exact": float(not wrong), "test_mse": off**2}  # fmt: skip
        yield rows_of("exactness", one, width // ratio, metrics)
    one = spec("paper", depths=(8, 16)) | {"dtype": "float32"}
    yield [failed_row("exactness", one, "Lemma 1 does not apply", method="paper", rank=8, seconds=0.1, origin=ORIGIN)]
    for method, depths, seed in product(("stable", "refined", "gradient"), ((1, 2), (2, 4)), (0, 1)):
        one = spec(method, depths=depths, seed=seed, ranks=list(RANKS))
        rows = []
        for rank in RANKS:
            size = math.sqrt(error(method, rank, depths, seed))
            metrics = {"mean_error": size, "largest_error": 3 * size, "attacked_error": 5 * size,
                       "error_bound": 20 * size}  # fmt: skip
            rows += rows_of("certificates", one, rank, metrics | ({"expected_error_bound": 2 * size} if seed else {}))
        yield rows


def hostile_cells():
    """Words that end elements, failures, values that cannot be drawn."""
    one = spec("stable", ranks=list(RANKS))
    failed = {"method": "stable", "seconds": 0.1, "origin": ORIGIN}
    rows = [failed_row("hostile", one, HOSTILE, rank=rank, **failed) for rank in (1, 4)]
    origin = Provenance(HOSTILE, HOSTILE, HOSTILE)
    yield rows + ok_rows("hostile", one, {"test_mse": 0.1, HOSTILE: 2.0}, method="stable", rank=8, seconds=0.1,
                         origin=origin, message=HOSTILE)  # fmt: skip
    odd = spec(HOSTILE, seed=1, ranks=[1, 8]) | {"scale": HOSTILE, HOSTILE: HOSTILE}
    for value, rank in ((math.nan, 1), (math.inf, 8)):
        yield rows_of("hostile", odd | {"at": rank}, rank, {"test_mse": value, "error_bound": value})
    yield rows_of("hostile", spec("gradient", seed=2, ranks=[4], scale="smoke"), 4, {"test_mse": 0.0})
    yield rows_of("hostile", spec("gradient", seed=3, ranks=[4], scale="paper"), 4, {"test_mse": 0.5})


def foreign_cells():
    """Rows of a suite that nobody knows, with a spec that says nothing of ours."""
    for seed in (0, 1):
        one = {"kind": "mine", "seed": seed, "method": "own"}
        yield rows_of("foreign", one, None, {"score": 0.5 + seed, "lr": 0.1})


@cache
def all_cells():
    """Rows cell by cell; not to be changed."""
    return list(_all_cells())


def _all_cells():
    yield from curve_cells("fnn")
    yield from curve_cells("fnn", scale="paper", ranks=tuple(range(1, 17)), seeds=(0,), inits=("random",))
    for suite in ("linear", "tfn"):
        yield from curve_cells(suite, seeds=(0, 1), inits=("random",))
    few = {"seeds": (0, 1), "inits": ("random",)}
    for task in ("classification", "binary"):
        labels = lambda mse: {"test_accuracy": 1 / (1 + mse), "test_kl": mse}  # noqa: E731
        yield from curve_cells(task, ranks=(0, *RANKS), extra=labels, **few)
    yield from curve_cells("distribution-shift", seeds=(0, 1), methods=("gradient", "stable"), inits=("random",),
                           extra=lambda mse: {"test_mse_shifted": 25 * mse})  # fmt: skip
    yield from curve_cells("generalization", seeds=(0, 1), methods=("gradient",),
                           extra=lambda mse: {"train_mse": mse / 10})  # fmt: skip
    for cells in (entries_cells, other_axes_cells, bound_cells, hostile_cells, foreign_cells):
        yield from cells()


def write(folder, cells):
    """All cells as part files, so many at once that writing is quick."""
    by_suite = {}
    for rows in cells:
        by_suite.setdefault(rows[0]["suite"], []).extend(rows)
    for rows in by_suite.values():
        write_part(folder, rows)
    return folder
