"""Medians of the committed records beside the medians that the paper's authors report, point by point.

    python benchmarks/reported_medians.py [--figures docs/figures] [--most 1.1]

Reads what `make figures` wrote. Ends with exit code 1 where a gradient median of the paper's scale is above MOST times
the authors'.
"""

import argparse
import csv
from pathlib import Path

from lorascope.figures.reference_points import reference


def plotted(folder):
    """(figure, panel, line, x) -> row of the figure's points."""
    found = {}
    for file in sorted(folder.glob("*.csv")):
        for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
            found[row["figure"], row["panel"], row["line"], float(row["x"])] = row
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figures", type=Path, default=Path("docs/figures"), metavar="DIR")
    parser.add_argument("--most", type=float, default=1.1)
    options = parser.parse_args()
    points, above, compared = plotted(options.figures), 0, 0
    print("| figure | panel | line | x | authors | here | ratio | scale, seeds |")
    print("|---|---|---|---|---|---|---|---|")
    for one in reference():
        if one.metric == "dev_score":  # of other encoders than ours
            continue
        row = points.get((one.figure, one.panel, one.line, one.x))
        if row is None:
            print(f"| {one.figure} | {one.panel} | {one.line} | {one.x:g} | {one.y:.2g} | not recorded | | |")
            continue
        ratio = float(row["y"]) / one.y
        gradient = one.line.startswith("gradient") and row["scale"] == "paper"
        compared += gradient
        above += gradient and ratio > options.most
        mark = " (above)" if gradient and ratio > options.most else ""
        place, scale = f"{one.figure} | {one.panel} | {one.line} | {one.x:g}", f"{row['scale']}, {row['seeds']}"
        print(f"| {place} | {one.y:.2g} | {float(row['y']):.3g} | {ratio:.2f}{mark} | {scale} |")
    count = f"{compared - above} of {compared}"
    print(f"\n{count} gradient medians of the paper's scale at most {options.most:g} times the authors'")
    raise SystemExit(1 if above else 0)


if __name__ == "__main__":
    main()
