"""``lorascope ranks``: what rank a fine-tune needs."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import SpecError
from ..progress import bar
from .files import output_file, write

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..hf import HeadRow, MatrixRow, RankReport

__all__ = ["ranks"]

_SHOWN = 10  # lines of what is left out


def ranks(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The model before fine-tuning: folder or hub name.")],
    tuned: Annotated[
        str, typer.Argument(metavar="TUNED", help="After it: folder, hub name, or a PEFT adapter's folder.")
    ],
    tolerance: Annotated[
        float, typer.Option(metavar="T", help="Relative error that a rank may leave; 0.1 keeps 99 % of the energy.")
    ] = 0.1,
    texts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="One text a line: recommend the rank that does what TUNED does on them."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Every number.")] = None,
    figure: Annotated[Path | None, typer.Option(metavar="FILE", help="Heat map of ranks: .png, .pdf or .svg.")] = None,
) -> None:
    """What rank a fine-tune needs: singular values of every difference, above what rounding of the weights makes."""
    if not 0 < tolerance < 1:
        raise SpecError(f"--tolerance must lie between 0 and 1, got {tolerance}; 0.1 keeps 99 % of the energy")
    if figure is not None and figure.suffix not in {".png", ".pdf", ".svg"}:
        raise SpecError(f"--figure must end in .png, .pdf or .svg, got {figure}; name another file")
    for path, option in ((json_file, "--json"), (figure, "--figure")):
        if path is not None:
            output_file(path, option)
    from rich.console import Console  # noqa: PLC0415

    from ..hf import quiet, rank_report  # noqa: PLC0415
    from .ranks_json import as_json  # noqa: PLC0415

    with quiet(), bar("Reading") as progress:
        report = rank_report(base, tuned, tolerance, texts, progress)
    if json_file is not None:
        write(json_file, (json.dumps(as_json(report), indent=1, allow_nan=False) + "\n").encode())
    if figure is not None:
        write(figure, _picture(report, figure.suffix[1:]))
    _print(Console(highlight=False), report)


def _picture(report: "RankReport", kind: str) -> bytes:
    from ..figures import rank_map  # noqa: PLC0415

    rows = [
        {"layer": row.layer, "module": row.module, "rank": row.spectrum.epsilon_rank(report.tolerance)}
        for row in report.matrices
    ]
    buffer = io.BytesIO()
    rank_map(rows, f"Rank for relative error {report.tolerance:g}").savefig(buffer, format=kind, dpi=200)
    return buffer.getvalue()


def _print(console: "Console", report: "RankReport") -> None:
    console.print("Differences of the weights: medians, and the largest of each rank.")
    console.print(_matrices("Matrices, by module", report, lambda row: row.module))
    if len({row.layer for row in report.matrices}) > 1:
        console.print(_matrices("Matrices, by layer", report, lambda row: row.layer or "(outside)"))
    if report.heads:
        console.print(_heads(report))
    changed = {name: count for name, count in report.whole.items() if count}
    console.print(
        f"{len(changed)} of {len(report.whole)} norms, biases and other parameters that only a copy can carry changed "
        f"({sum(changed.values()):,} entries)."
    )
    for entry in report.left_out[:_SHOWN]:
        console.print(f"Left out: {entry.name}: {entry.reason}", soft_wrap=True, markup=False)
    if len(report.left_out) > _SHOWN:
        console.print(f"... and {len(report.left_out) - _SHOWN} more; --json has them all")
    if report.configurations:
        console.print(report.configurations, soft_wrap=True, markup=False)
    console.print(_costs(report))
    recommended = report.recommendation
    if recommended.divergences:
        told = ", ".join(f"{rank}: {kl:.3g}" for rank, kl in recommended.divergences)
        console.print(f"KL to TUNED on the texts by rank, in nats: {told}.", soft_wrap=True, markup=False)
    head = "No rank" if recommended.rank is None else f"Rank {recommended.rank}"
    console.print(f"{head}: {recommended.reason}.", soft_wrap=True, markup=False)


def _table(title: str, *heads: str) -> "Table":
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, title_justify="left", title_style="bold",
                  box=box.SIMPLE_HEAD, pad_edge=False,
                  collapse_padding=True)  # fmt: skip
    table.add_column(heads[0], overflow="fold")
    for head in heads[1:]:
        table.add_column(head, justify="right", no_wrap=True)
    return table


def _matrices(title: str, report: "RankReport", key: Callable[["MatrixRow"], str]) -> "Table":
    """Medians over the matrices of a group, and the largest of each rank."""
    table = _table(
        title, "", "number", "relative\nchange", f"rank for\nerror {report.tolerance:g}", "above\nrounding",
        "stable\nrank", "exact\nrank",
    )  # fmt: skip
    groups: dict[str, list[MatrixRow]] = {}
    for row in report.matrices:
        groups.setdefault(key(row), []).append(row)
    for name, rows in [*groups.items(), ("all", report.matrices)] if len(groups) > 1 else groups.items():
        spectra = [row.spectrum for row in rows]
        table.add_row(
            _last(name, 2),
            str(len(rows)),
            f"{median(row.relative for row in rows):.2g}",
            _ranks([spectrum.epsilon_rank(report.tolerance) for spectrum in spectra]),
            _ranks([spectrum.rank if spectrum.complete else None for spectrum in spectra]),
            f"{median(spectrum.stable_rank for spectrum in spectra):.1f}",
            _ranks([spectrum.exact_rank if spectrum.complete else None for spectrum in spectra]),
            style="bold" if name == "all" else None,
        )
    return table


def _heads(report: "RankReport") -> "Table":
    table = _table(
        "Products of attention heads (W_K^T W_Q, W_O W_V)", "", "number", "relative\nchange",
        f"rank for\nerror {report.tolerance:g}", "above\nrounding", "exact\nrank", "needed by\nTheorem 7",
    )  # fmt: skip
    groups: dict[str, list[HeadRow]] = {}
    for row in report.heads:
        groups.setdefault(f"{_last(row.module, 1)} {row.gap.product}", []).append(row)
    for name, rows in groups.items():
        spectra = [row.gap.spectrum for row in rows]
        table.add_row(
            name,
            str(len(rows)),
            f"{median(row.gap.relative for row in rows):.2g}",
            _ranks([spectrum.epsilon_rank(report.tolerance) for spectrum in spectra]),
            _ranks([spectrum.rank for spectrum in spectra]),
            _ranks([spectrum.exact_rank for spectrum in spectra]),
            _ranks([row.gap.needed for row in rows]),
        )
    return table


def _last(name: str, parts: int) -> str:
    return ".".join(name.split(".")[-parts:])


def _costs(report: "RankReport") -> "Table":
    table = _table("An adapter of one rank", "rank", "energy kept", "parameters", "of the model", "MB in bfloat16")
    for cost in report.recommendation.costs:
        table.add_row(
            str(cost.rank), f"{100 * cost.energy:.2f} %", f"{cost.parameters:,}",
            f"{100 * cost.parameters / report.parameters:.2f} %", f"{2 * cost.parameters / 1e6:.3g}",
            style="bold" if cost.rank == report.recommendation.rank else None,
        )  # fmt: skip
    return table


def _ranks(values: Sequence[int | None]) -> str:
    """Median and largest; "?" where more than was computed."""
    known: list[Any] = sorted(value for value in values if value is not None)
    middle = f"{median(known):.0f}" if known else "?"
    most = f"{known[-1]}" if len(known) == len(values) else "?"
    return most if middle == most else f"{middle}, {most}"
