"""Below the threshold: refined adapters, the closed forms, the paper's construction and LoRA trained by Adam.

    python benchmarks/below_threshold.py [--kinds fnn transformer path] [--seeds 0 1 2 3 4] [--ranks 1 2 3 4 5 6 7 8]
                                         [--results results/below-threshold] [--plain-steps 300]

Width 16, default init, N(0, 1) inputs; every method on the same networks and the same fresh test inputs (20,000
vectors, or 5,000 sequences of ten tokens), one thread; transformers are adapted where Theorem 7 adapts them. Adam is
LoRA at its best of twelve settings (learning rate 1e-2, 1e-3, 1e-4 times weight decay 0, 1e-4, 1e-3, 1e-2;
transformers: the three rates), 5,000 steps of 256 fresh inputs, chosen on held-out ones. Seconds are CPU time; "plain
loop" is what the same Adam runs take one after another in a plain PyTorch loop, timed over --plain-steps steps of each
setting and scaled to 5,000. A "path" is one call of construct.refined_path over all ranks, each error measured on the
same fresh inputs. Every finished cell is a Parquet file under --results; a cell that is there is not run again.
benchmarks/below_threshold_page.py makes the page.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import torch

from lorascope import construct, tune
from lorascope.errors import LorascopeError
from lorascope.models import FNN, TransformerNetwork
from lorascope.records import Provenance, Row, cell_name, done, failed_row, ok_rows, provenance, write_part

SUITE = "below-threshold"
WIDTH, HEADS, TOKENS = 16, 2, 10
STEPS, BATCH = 5000, 256
RATES, DECAYS = (1e-2, 1e-3, 1e-4), (0.0, 1e-4, 1e-3, 1e-2)
PATIENT = 600  # seconds: more than any refinement takes, so that a busy machine changes times and nothing else


def cells(kinds: list[str], ranks: list[int], seeds: list[int]) -> Iterator[dict]:
    for seed in seeds if "path" in kinds else []:
        for target, frozen in ((1, 2), (2, 4)):
            yield {"kind": "path", "target": target, "frozen": frozen, "rank": max(ranks), "seed": seed}
    for seed, rank in product(seeds, ranks):
        if "fnn" in kinds:
            for target, frozen in ((1, 2), (2, 4)):
                yield {"kind": "fnn", "target": target, "frozen": frozen, "rank": rank, "seed": seed}
        if "transformer" in kinds and rank in (1, 2, 4, 6) and seed < 3:
            for depth in (1, 2):
                yield {"kind": "transformer", "target": depth, "frozen": depth, "rank": rank, "seed": seed}


def networks(cell: dict):
    generator = torch.Generator().manual_seed(cell["seed"])
    if cell["kind"] != "transformer":
        return FNN(WIDTH, cell["frozen"], generator=generator), FNN(WIDTH, cell["target"], generator=generator)
    return tuple(TransformerNetwork(WIDTH, HEADS, cell["frozen"], generator=generator) for _ in range(2))


def test_inputs(cell: dict) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1_000_000 + cell["seed"])
    shape = (5_000, TOKENS, WIDTH) if cell["kind"] == "transformer" else (20_000, WIDTH)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def adapted_names(cell: dict) -> list[str]:
    """What every method may adapt: all matrices of an FNN; attention and the last two matrices of a transformer."""
    names = [name for name, parameter in networks(cell)[0].named_parameters() if parameter.ndim > 1]
    last = f"blocks.{cell['frozen'] - 1}.ffn_out.weight"
    return [name for name in names if "ffn" not in name or name == last]


def methods(cell: dict) -> dict[str, Callable]:
    """Name -> (frozen, target) -> adaptation."""
    ranks, refined = dict.fromkeys(adapted_names(cell), cell["rank"]), construct.refined
    trained = {"ranks": ranks, "lr": RATES, "steps": STEPS, "batch": BATCH}
    trained |= {"generator": torch.Generator().manual_seed(cell["seed"])}
    trained |= {"weight_decay": DECAYS} if cell["kind"] == "fnn" else {"validate_every": 50}
    return {
        "paper": lambda frozen, target: construct.paper(frozen, target, ranks=ranks),
        "truncation": lambda frozen, target: refined(frozen, target, ranks=ranks, seconds=0),
        "refined fast": lambda frozen, target: refined(frozen, target, ranks=ranks, seconds=PATIENT, profile="fast"),
        "refined full": lambda frozen, target: refined(frozen, target, ranks=ranks, seconds=PATIENT),
        "adam": lambda frozen, target: tune.lora(frozen.float(), target.float(), **trained),
    }


def run(cell: dict, plain_steps: int, origin: Provenance) -> list[Row]:
    """All methods on one pair of networks at one rank."""
    inputs = test_inputs(cell)
    with torch.no_grad():
        wanted = networks(cell)[1](inputs)
    rows = []
    same = {"rank": cell["rank"], "seed": cell["seed"], "origin": origin}
    for method, adapt in methods(cell).items():
        frozen, target = networks(cell)
        begun = time.process_time()
        try:
            found = adapt(frozen, target)
        except LorascopeError as error:
            rows.append(failed_row(SUITE, cell, str(error), method=method, seconds=time.process_time() - begun, **same))
            continue
        seconds = time.process_time() - begun
        with torch.no_grad():
            dtype = next(found.model.parameters()).dtype
            outputs = torch.cat([found.model(part.to(dtype)).double() for part in inputs.split(1000)])
        trained = sum(a.A.numel() + a.B.numel() for a in found.adapters.values())
        metrics = {
            "mse": float((outputs - wanted).square().mean()),
            "parameters": float(trained + sum(bias.numel() for bias in found.biases.values())),
        }
        rows += ok_rows(SUITE, cell, metrics, method=method, seconds=seconds, message=found.method, **same)
    spent = plain_loop(cell, plain_steps)
    note = f"{plain_steps} of {STEPS} steps timed"
    rows += ok_rows(SUITE, cell, {"seconds": spent}, method="plain loop", seconds=spent, message=note, **same)
    return rows


def run_path(cell: dict, origin: Provenance) -> list[Row]:
    """All ranks up to the cell's in one nested path."""
    inputs, (frozen, target) = test_inputs(cell), networks(cell)
    begun, ranks = time.process_time(), list(range(1, cell["rank"] + 1))
    path = construct.refined_path(frozen, target, ranks, seconds=PATIENT)
    seconds, rows = time.process_time() - begun, []
    for rank, found in zip(ranks, path, strict=True):
        with torch.no_grad():
            error = float((found.model(inputs) - target(inputs)).square().mean())
        same = {"rank": rank, "seed": cell["seed"], "origin": origin, "message": found.method}
        rows += ok_rows(SUITE, cell, {"mse": error}, method="refined path", seconds=seconds / len(ranks), **same)
    return rows


def plain_loop(cell: dict, steps: int) -> float:
    """CPU seconds of all settings one after another, scaled from ``steps`` to all steps."""
    frozen, target = (model.float() for model in networks(cell))
    decays = DECAYS if cell["kind"] == "fnn" else (0.0,)
    begun = time.process_time()
    for lr, decay in product(RATES, decays):
        one_run(frozen, target, cell, lr, decay, steps)
    return (time.process_time() - begun) * STEPS / steps


def one_run(frozen, target, cell: dict, lr: float, decay: float, steps: int) -> None:
    """LoRA as anyone would write it: torch.func's functional call on merged weights, torch.optim.Adam."""
    generator = torch.Generator().manual_seed(cell["seed"])
    kept = {name: parameter.detach() for name, parameter in frozen.named_parameters()}
    names, lower, upper = adapted_names(cell), {}, {}
    for name in names:
        *heads, out, inp = kept[name].shape
        lower[name] = (0.25 * torch.randn(*heads, cell["rank"], inp, generator=generator)).requires_grad_()
        upper[name] = torch.zeros(*heads, out, cell["rank"], requires_grad=True)
    biases = {name: value.clone().requires_grad_() for name, value in kept.items() if value.ndim == 1}
    trained = [*lower.values(), *upper.values(), *biases.values()]
    optimiser = torch.optim.Adam(trained, lr=lr, weight_decay=decay)
    shape = (BATCH, WIDTH) if cell["kind"] == "fnn" else (BATCH, TOKENS, WIDTH)
    for _ in range(steps):
        inputs = torch.randn(shape, generator=generator)
        with torch.no_grad():
            wanted = target(inputs)
        if cell["kind"] == "fnn":
            found = inputs
            for layer in range(cell["frozen"]):
                name = f"layers.{layer}.weight"
                weight = kept[name] + upper[name] @ lower[name]
                found = torch.relu(torch.nn.functional.linear(found, weight, biases[f"layers.{layer}.bias"]))
        else:
            merged = {name: kept[name] + upper[name] @ lower[name] for name in names} | biases
            found = torch.func.functional_call(frozen, merged, (inputs,))
        loss = (found - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--kinds", nargs="+", choices=["fnn", "transformer", "path"], default=["fnn", "transformer", "path"]
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6, 7, 8])
    parser.add_argument("--results", type=Path, default=Path("results/below-threshold"))
    parser.add_argument("--plain-steps", type=int, default=300)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    origin = provenance("cpu")
    finished = done(chosen.results, SUITE)
    wanted = [cell for cell in cells(chosen.kinds, chosen.ranks, chosen.seeds) if cell_name(cell) not in finished]
    for number, cell in enumerate(wanted, 1):
        begun = time.monotonic()
        rows = run_path(cell, origin) if cell["kind"] == "path" else run(cell, chosen.plain_steps, origin)
        write_part(chosen.results, rows)
        print(f"{number}/{len(wanted)} {cell} {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
