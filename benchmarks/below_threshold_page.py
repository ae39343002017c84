"""docs/below-threshold.md and its picture, from the records of benchmarks/below_threshold.py.

python benchmarks/below_threshold_page.py [--results results/below-threshold] [--out docs]
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path
from statistics import median

import polars as pl

from lorascope.figures import below_threshold
from lorascope.records import read

TITLES = {
    ("fnn", 1, 2): "ReLU network, 1 layer from 2",
    ("fnn", 2, 4): "ReLU network, 2 layers from 4",
    ("transformer", 1, 1): "transformer, depth 1",
    ("transformer", 2, 2): "transformer, depth 2",
}
METHODS = ("paper", "truncation", "adam", "refined fast", "refined full")
HEAD = """# Below the threshold: who comes nearest, and at what cost

A frozen and a target network of width 16 with torch's default random weights (transformers: 2 heads, length 10,
attention N(0, 1)), inputs from N(0, I), mean squared error on 20,000 fresh vectors, or 5,000 fresh sequences. Every
number is a median over {seeds}; the same networks, adapted matrices and test inputs for every method.

* **paper**: the paper's construction (`construct.paper`), the truncated error matrix split over the layers.
* **truncation**: the closed form of `seconds=0`, weighted by the covariance of each layer's inputs.
* **Adam**: LoRA trained by `tune.lora` for 5,000 steps of 256 fresh inputs, the best of twelve settings (learning rate
  1e-2, 1e-3, 1e-4 times weight decay 0, 1e-4, 1e-3, 1e-2; transformers: the three rates) on held-out inputs.
* **refined**: `construct.refined`, what `lorascope.adapt` does below the threshold; profile `fast` or `full`.

Seconds are CPU time on one thread. *Plain loop* is what the Adam runs take one after another in a plain PyTorch loop,
timed over the first steps of each setting and scaled to all 5,000; *share* is the refinement's time over it.

![Error against rank for five methods, and the refined errors' ratio to Adam's](below-threshold.png)

Made by `python benchmarks/below_threshold.py` (resumable; the records are in `results/below-threshold`) and
`python benchmarks/below_threshold_page.py`. {origin}.
"""


def table(results: Path) -> pl.DataFrame:
    """The records with their specs spread out, and a title a pair of networks."""
    rows = read(results)
    specs = [json.loads(text) for text in rows["spec"]]
    kinds = ["fnn" if spec["kind"] == "path" else spec["kind"] for spec in specs]
    titles = [TITLES[kind, spec["target"], spec["frozen"]] for kind, spec in zip(kinds, specs, strict=True)]
    return rows.with_columns(pl.Series("panel", titles))


def cell(rows: pl.DataFrame, method: str, metric: str, column: str = "value") -> float | None:
    found = rows.filter((pl.col("method") == method) & (pl.col("metric") == metric))[column]
    return median(found) if len(found) else None


def ratios(rows: pl.DataFrame, method: str, base: str) -> list[float]:
    """Error over the baseline's, seed by seed."""
    errors = rows.filter(pl.col("metric") == "mse")
    own, other = (
        dict(errors.filter(pl.col("method") == name).select("seed", "value").iter_rows()) for name in (method, base)
    )
    return [value / other[seed] for seed, value in sorted(own.items()) if seed in other and other[seed] > 0]


def errors_of(rows: pl.DataFrame, methods: list[str]) -> list[str]:
    lines = ["| rank | " + " | ".join(methods) + " | full / Adam: median, worst | parameters |"]
    lines.append("|---" * (len(methods) + 3) + "|")
    for rank in sorted(rows["rank"].unique()):
        own = rows.filter(pl.col("rank") == rank)
        found = ratios(own, "refined full", "adam")
        values = [cell(own, method, "mse") for method in methods]
        shown = ["-" if value is None else f"{value:.3g}" for value in values]
        bold = f"**{median(found):.3g}**, {max(found):.3g}" if found else "-"
        lines.append(f"| {rank} | {' | '.join(shown)} | {bold} | {cell(own, 'refined full', 'parameters'):.0f} |")
    return lines


def seconds_of(rows: pl.DataFrame) -> list[str]:
    lines = ["| rank | fast | full | Adam, batched | plain loop | share, fast | share, full |", "|---" * 7 + "|"]
    for rank in sorted(rows["rank"].unique()):
        own = rows.filter(pl.col("rank") == rank)
        fast, full, batched = (cell(own, name, "mse", "seconds") for name in ("refined fast", "refined full", "adam"))
        plain = cell(own, "plain loop", "seconds")
        if None in (fast, full, batched, plain):
            continue
        lines.append(
            f"| {rank} | {fast:.1f} | {full:.1f} | {batched:.1f} | {plain:.1f} | {fast / plain:.2f} | "
            f"{full / plain:.2f} |"
        )
    return lines


def path_of(rows: pl.DataFrame) -> list[str]:
    """How the nested path's error goes down on fresh inputs, rank after rank."""
    own = rows.filter((pl.col("method") == "refined path") & (pl.col("metric") == "mse"))
    if own.is_empty():
        return []
    ranks = sorted(own["rank"].unique())
    errors = {rank: dict(own.filter(pl.col("rank") == rank).select("seed", "value").iter_rows()) for rank in ranks}
    steps = [errors[b][seed] / errors[a][seed] for a, b in pairwise(ranks) for seed in errors[a]]
    medians = ", ".join(f"{median(errors[rank].values()):.3g}" for rank in ranks)
    line = (
        f"`construct.refined_path` over ranks {ranks[0]} to {ranks[-1]}, {len(errors[ranks[0]])} seeds: median errors "
        f"{medians}; the error of rank R + 1 over that of rank R is at most {max(steps):.3f}."
    )
    return [line, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results/below-threshold"))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    chosen = parser.parse_args()
    rows = table(chosen.results)
    versions, commits, devices = (
        ", ".join(sorted(value[:9] for value in rows[name].unique().drop_nulls()))
        for name in ("version", "commit", "device")
    )
    origin = f"Recorded with version {versions} (commits {commits}) on {devices}"
    seeds = {panel: rows.filter(pl.col("panel") == panel)["seed"].n_unique() for panel in TITLES.values()}
    counts = f"{max(seeds.values())} seeds (transformers: {min(seeds.values())})"
    page = [HEAD.format(seeds=counts, origin=origin)]
    drawn = [title for title in TITLES.values() if seeds[title]]
    for title in drawn:
        own = rows.filter(pl.col("panel") == title)
        methods = [method for method in METHODS if method in own["method"].unique()]
        page += [
            f"## {title[0].upper()}{title[1:]}",
            "",
            *errors_of(own, methods),
            "",
            *seconds_of(own),
            "",
            *path_of(own),
        ]
    errors = rows.filter(pl.col("metric") == "mse").select("panel", "method", "rank", "seed", "value")
    order = {title: place for place, title in enumerate(drawn)}
    below = errors.filter(pl.col("value") > 1e-15)  # at the threshold the construction is exact: nothing to compare
    figure = below_threshold(sorted(below.to_dicts(), key=lambda row: order[row["panel"]]))
    figure.savefig(chosen.out / "below-threshold.png", dpi=200)
    (chosen.out / "below-threshold.md").write_text("\n".join(page).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
