"""How far medians of LoRA by Adam move when nothing but the random starts and batches changes.

    python benchmarks/gradient_spread.py [--repeats 5] [--init random|pretrained]

The networks are those of the suite `fnn` (two target layers, four frozen ones, seeds 0 to 4), the twelve settings the
paper's, the steps 5,000; each repeat draws other starts and batches. Printed beside the medians the authors report.
"""

import argparse
from statistics import median

import torch

from lorascope.experiments import cell, grid, load_suite
from lorascope.figures.reference_points import reference


def medians(specs, repeat):
    """Rank -> median test MSE over seeds."""
    values = {}
    for spec in specs:
        # the number of test inputs is part of the draws' names: another number, other starts, batches and test inputs
        for row in cell(spec | {"test_inputs": spec["test_inputs"] + repeat}):
            values.setdefault(row["rank"], []).append(row["metrics"]["test_mse"])
    return {rank: median(found) for rank, found in values.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--init", choices=["random", "pretrained"], default="random")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ranks = [1, 2, 3, 4, 5, 6]
    specs = [
        spec | {"ranks": ranks}
        for spec in grid(load_suite("fnn"), "paper")
        if (spec["method"], spec["init"]) == ("gradient", options.init)
    ]
    authors = {
        int(one.x): one.y
        for one in reference()
        if one.figure == "fnn" and one.panel.startswith(options.init) and one.line.startswith("gradient")
    }
    found = [medians(specs, repeat) for repeat in range(options.repeats)]
    print(f"{options.init} frozen networks, median over 5 seeds of the test MSE; {options.repeats} repeats")
    print("| rank | least | median | greatest | authors | ratio of the median |")
    print("|---|---|---|---|---|---|")
    for rank in ranks:
        values = sorted(one[rank] for one in found)
        place = f"| {rank} | {values[0]:.2g} | {median(values):.2g} | {values[-1]:.2g} |"
        reported = authors.get(rank)
        print(f"{place} {reported:.2g} | {median(values) / reported:.2f} |" if reported else f"{place} | |")


if __name__ == "__main__":
    main()
