"""``lorascope demo``: frozen random networks become one that reads digits, with as little rank as possible."""

import io
import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from decimal import ROUND_UP, Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._version import __version__
from .files import output_folder, write

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..experiments import DigitsResult, DigitsRow, Progress

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the picture and the numbers; made if missing.")] = Path(
        "lorascope-demo"
    ),
) -> None:
    """Turn frozen random networks into one that reads handwritten digits (about a minute)."""
    folder = output_folder(out, "--out")
    # torch and matplotlib take seconds to load, which neither --help nor a mistake should wait for
    import torch  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    from ..experiments import run_digits  # noqa: PLC0415
    from ..figures import rank_curve  # noqa: PLC0415

    torch.set_num_threads(1)  # matrices this small are done before a second thread wakes up
    console = Console(highlight=False)
    with _bar() as progress:
        result = run_digits(progress=progress)
    picture = io.BytesIO()
    rank_curve(result.rows).savefig(picture, format="png", dpi=200)
    write(folder / "rank-curve.png", picture.getvalue())
    write(folder / "demo.json", _as_json(result))
    _report(console, result)
    console.print(f"\nPicture: {folder / 'rank-curve.png'}\nNumbers: {folder / 'demo.json'}", soft_wrap=True)
    if any(_falls_short(row) for row in result.rows):
        raise typer.Exit(1)


@contextmanager
def _bar() -> Generator["Progress"]:
    """A progress bar on stderr while it is a terminal; nothing otherwise."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = TextColumn("{task.description:<32}"), BarColumn(), TimeElapsedColumn()
    names = {"train": "Training the target", "adapt": "Adapting"}
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks = {stage: bar.add_task(name, total=None, start=stage == "train") for stage, name in names.items()}

        def update(stage: str, done: int, total: int, what: str) -> None:
            bar.start_task(tasks[stage])
            bar.update(tasks[stage], completed=done, total=total, description=f"{names[stage]}: {what}")

        yield update


def _as_json(result: "DigitsResult") -> bytes:
    content = {
        "version": __version__,
        "train_images": result.train_images,
        "test_images": result.test_images,
        "train_seconds": result.train_seconds,
        "rows": result.rows,
    }
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def _report(console: "Console", result: "DigitsResult") -> None:
    first = result.rows[0]
    console.print(
        f"Target: 2 layers of width 64, trained on {result.train_images} handwritten digits; "
        f"test accuracy {first['target_accuracy']:.1%} on {result.test_images} others."
    )
    for at in _at_threshold(result.rows):
        console.print()
        console.print(_table([row for row in result.rows if row["depth"] == at["depth"]]))
        console.print(
            f"At rank {at['rank']}: largest difference of an output {at['max_output_difference']:.1e}, relative error "
            f"{at['relative_error']:.1e}, residual {at['residual']:.1e}, largest adapter norm "
            f"{at['largest_adapter_norm']:.1f}."
        )
    console.print(
        "\nErrors: Euclidean norm of the difference of the 64 outputs, on the test images. Bounds: of the mean over "
        "the training images, and for every image with pixels in [0, 1]."
    )
    console.print(f"\n{_closing(result)}")


def _table(rows: Sequence["DigitsRow"]) -> "Table":
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    first = rows[0]
    table = Table(
        title=f"Frozen network of {first['depth']} layers: accuracy {first['frozen_accuracy']:.1%}, "
        f"rank needed {first['rank_needed']} (Theorem 3: {first['paper_rank']})",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    heads = "rank", "test\naccuracy", "same digit\nas target", "mean\nerror", "its\nbound"
    for name in (*heads, "largest\nerror", "its\nbound", "\nexact", "\nseconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        expected = row["expected_error_bound"]
        table.add_row(
            str(row["rank"]),
            f"{row['accuracy']:.1%}",
            f"{row['agreement']:.1%}",
            _short(row["mean_error"]),
            "-" if expected is None else _short(expected),
            _short(row["max_error"]),
            _short(row["error_bound"]),
            "yes" if row["exact"] else "no",
            f"{row['seconds']:.1f}",
            style="bold" if row["rank"] == row["rank_needed"] else None,
        )
    return table


def _short(value: float) -> str:
    """Two digits, without an exponent from 0.01 to 10000."""
    return f"{value:.0f}" if 100 <= value < 10000 else f"{value:.2g}"


def _closing(result: "DigitsResult") -> str:
    ends = _at_threshold(result.rows)
    short = [row for row in result.rows if _falls_short(row)]
    if short:
        which = "; ".join(
            f"{row['depth']} layers at rank {row['rank']}: same digit on {row['agreement']:.1%}, largest error "
            f"{row['max_error']:.2g}, bound {row['error_bound']:.2g}. {' '.join(row['conditions'])}"
            for row in short
        )
        return f"This falls short of what the theory promises. {which}"
    needs = " and ".join(f"{row['rank']} for {row['depth']} layers" for row in ends)
    bound = max(row["error_bound"] for row in ends)
    return (
        f"What this shows: random networks become the trained one through low-rank adapters. The rank needed is "
        f"{needs}. "
        f"At that rank, without any training, each adapted network names the same digit as the target on all "
        f"{result.test_images} test images, and for every image with pixels in [0, 1] its outputs are certified to lie "
        f"within {_upwards(bound)} of the target's. Below it an error remains, which adapters refined on the training "
        f"images keep small. At every rank the errors stay below their bounds (means: on the training images)."
    )


def _upwards(value: float) -> str:
    """One digit, rounded up, so that what is said of a bound is true."""
    return f"{float(Context(prec=1, rounding=ROUND_UP).create_decimal(Decimal(value))):.0e}"


def _at_threshold(rows: Sequence["DigitsRow"]) -> list["DigitsRow"]:
    return [row for row in rows if row["rank"] == row["rank_needed"]]


def _falls_short(row: "DigitsRow") -> bool:
    """A bound that does not hold, or a network that has the rank it needs and is not the target."""
    expected = row["expected_error_bound"]
    holds = row["max_error"] <= row["error_bound"] and (expected is None or row["train_mean_error"] <= expected)
    is_target = row["exact"] and row["agreement"] == 1
    return not holds or (row["rank"] >= row["rank_needed"] and not is_target)
