"""Tables of medians, and of what became of a cell computed again, no wider than a terminal."""

from collections.abc import Collection, Generator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console
    from rich.table import Table

    from ..records import Comparison, Median

__all__ = ["print_comparison", "print_medians", "print_predictions", "print_table"]

_FIRST, _VALUE, _GAP = 16, 7, 3  # characters of a table's first column, of a value, between two columns
# What is shown of a suite: all of the first group that its records have any of.
_SHOWN: tuple[dict[str, str], ...] = (
    {"dev_score": "score on the development rows", "recommended_rank": "rank recommended for the full fine-tune"},
    {"relative_error": "relative error at the rank needed, by width and precision"},
    {"test_accuracy": "test accuracy", "test_accuracy_shifted": "test accuracy on shifted inputs"},
    {"attacked_error": "error that an attack finds", "error_bound": "error that is certified", "test_mse": "test MSE"},
    {
        "rank_enough": "least rank whose error is enough",
        "frozen_mse": "error of the frozen network",
        "test_mse": "test MSE",
    },
    {
        "train_mse": "training MSE",
        "start_mse": "MSE before training",
        "test_mse": "test MSE",
        "test_mse_shifted": "test MSE on shifted inputs",
    },
)


def shown(metrics: Collection[str]) -> dict[str, str]:
    """The metrics that a run's tables are about, and what they are called.

    >>> shown({"test_mse", "lr"})
    {'test_mse': 'test MSE'}
    >>> list(shown({"test_mse", "error_bound", "attacked_error"}))
    ['attacked_error', 'error_bound', 'test_mse']
    """
    for group in _SHOWN:
        if next(iter(group)) in metrics or group is _SHOWN[-1]:
            return {name: words for name, words in group.items() if name in metrics}
    return {}


def print_medians(console: "Console", table: "pl.DataFrame", suite: str, cells: Collection[str], title: str) -> None:
    """A table for each metric shown and each kind of frozen network.

    Args:
        table: from ``records.read``.
        suite: its name.
        cells: names of those that count.
        title: of the suite.
    """
    import polars as pl  # noqa: PLC0415

    from ..records import medians  # noqa: PLC0415

    mine = table.filter(pl.col("suite") == suite, pl.col("cell").is_in(list(cells)))
    for metric, words in shown(set(mine["metric"].drop_nulls())).items():
        print_table(console, medians(mine, suite, cells, metric), title, words)


def print_table(console: "Console", points: Sequence["Median"], title: str, words: str) -> None:
    """A table for each kind of frozen network, a row for each rank; ``words``: what the values are."""
    for init in dict.fromkeys(point.init for point in points):
        chosen = [point for point in points if point.init == init]
        seeds = sorted({point.seeds for point in chosen})
        over = "1 seed" if seeds == [1] else f"{'-'.join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1])))} seeds"
        console.print(f"\n{title}, {init} frozen network: median {words} over {over}", markup=False)
        columns = list(dict.fromkeys((point.depths, point.line) for point in chosen))
        for fitting in _fitting(columns, console.width):
            console.print(_table(chosen, fitting))


def _fitting(columns: Sequence[tuple[str, str]], width: int) -> Generator[list[tuple[str, str]]]:
    """As many columns at a time as a terminal of that width holds, one at least."""
    taken: list[tuple[str, str]] = []
    room = width - _FIRST
    for column in columns:
        needs = max(*(len(part) for part in column), _VALUE) + _GAP
        if taken and needs > room:
            yield taken
            taken, room = [], width - _FIRST
        taken.append(column)
        room -= needs
    yield taken


def _table(points: Sequence["Median"], columns: Sequence[tuple[str, str]]) -> "Table":
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("target/frozen\nmethod", no_wrap=True)
    for depths, line in columns:
        table.add_column(f"{depths}\n{line}", justify="right", no_wrap=True)
    values = {(point.at, point.depths, point.line): f"{point.value:.2g}" for point in points}
    for at in dict.fromkeys(point.at for point in points if (point.depths, point.line) in columns):
        table.add_row(at, *(values.get((at, *column), "-") for column in columns))
    return table


def print_predictions(console: "Console", table: "pl.DataFrame", suite: str, cells: Collection[str]) -> None:
    """Of real tasks: what a full fine-tune gains, the rank predicted from it, and the rank that training takes."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from ..records import KEPT, measurements, predictions  # noqa: PLC0415

    found = [one for one in measurements(table, suite, cells) if one.spec.get("measure") == "glue"]
    told = predictions(found)
    if not told:
        return
    console.print(
        "\nRank predicted from the full fine-tune, and rank that training takes; means over seeds", markup=False
    )
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    kept = f"{KEPT:.0%} of\nthe gain"
    for name in ("task", "head\nalone", "all\nweights", "gain,\npoints", "predicted\nrank", f"trained,\n{kept}",
                 f"extracted,\n{kept}", f"by texts\n{kept}"):  # fmt: skip
        shown.add_column(name, justify="left" if name == "task" else "right", no_wrap=True)
    for one in told:
        ranks = [one.least(some) if some else -1 for some in one.ways]
        words = ["none tried" if rank is None else "-" if rank < 0 else str(rank) for rank in ranks]
        rank = "-" if one.predicted is None else f"{one.predicted:g}"
        tail = (rank, *words) if one.tells else ("no gain", "-", "-", "-")
        head = "-" if one.head is None else f"{one.head:.3f}"
        gain = "-" if one.gain is None else f"{100 * one.gain:.1f}"
        shown.add_row(one.task, head, f"{one.full:.3f}", gain, *tail)
    console.print(shown)


def print_comparison(console: "Console", comparison: "Comparison") -> None:
    """A cell computed again, beside its record: metric by metric, and what else differs."""
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    verdict = "the same to 1e-5" if comparison.same else "not the same"
    console.print(f"\nCell {comparison.cell} computed again, beside its record: {verdict}", markup=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("metric", "values", "largest\ndifference", "in\nproportion", "same\nto 1e-5"):
        table.add_column(name, justify="left" if name == "metric" else "right", no_wrap=True)
    for one in comparison.changes:
        values = str(one.values), f"{one.absolute:.2g}", f"{one.relative:.2g}", "yes" if one.same else "NO"
        table.add_row(one.metric, *values)
    if comparison.changes:
        console.print(table)
    for one in comparison.apart:
        console.print(f"Differs: {one}", soft_wrap=True, markup=False)
