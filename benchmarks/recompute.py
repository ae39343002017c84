"""Committed cells, picked at random, computed again: is every value the same to 1e-5?

    python benchmarks/recompute.py [--cells 20] [--seed 0] [--results results/experiments]

Does for each what `lorascope run SUITE --scale SCALE --only CELL` does, but writes nothing. Ends with exit code 1 where
a value differs.
"""

import argparse
import json
import random
from pathlib import Path
from time import perf_counter

import polars as pl
import torch

from lorascope.experiments import compute
from lorascope.records import compare, read


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--results", type=Path, default=Path("results/experiments"), metavar="DIR")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = read(options.results).filter(pl.col("status") == "ok")
    # a cell of real tasks needs its encoder and its rows: lorascope run glue --only CELL --model DIR --data DIR
    names = table.filter(pl.col("suite") != "glue").select("suite", "cell").unique().sort("suite", "cell").rows()
    chosen = random.Random(options.seed).sample(names, min(options.cells, len(names)))
    print("| suite | cell | method | values | largest relative difference | same | differs in | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    failed = 0
    for suite, name in chosen:
        rows = table.filter(pl.col("suite") == suite, pl.col("cell") == name).to_dicts()
        started = perf_counter()
        found = compare(rows, compute(suite, json.loads(rows[0]["spec"])))
        failed += not found.same
        values, worst = sum(one.values for one in found.changes), max(one.relative for one in found.changes)
        apart = "; ".join(one for one in found.apart if not one.startswith("commit"))
        place, same = f"| {suite} | {name} | {rows[0]['method']} | {values}", "yes" if found.same else "NO"
        print(f"{place} | {worst:.1g} | {same} | {apart} | {perf_counter() - started:.0f} |", flush=True)
    print(f"\n{len(chosen) - failed} of {len(chosen)} cells have the same values to 1e-5")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
