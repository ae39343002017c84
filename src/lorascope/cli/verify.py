"""``lorascope verify``: is an adapter what its card says, and how near does it come."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import SpecError
from ..progress import bar
from .files import output_file, write

if TYPE_CHECKING:
    from rich.console import Console

    from ..hf import Verified

__all__ = ["verify"]

_SHOWN = 10  # rows and faults


def verify(
    base: Annotated[str, typer.Argument(metavar="BASE", help="Folder or hub name.")],
    tuned: Annotated[str, typer.Argument(metavar="TUNED", help="Folder or hub name.")],
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="The adapter's folder.")],
    texts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One text a line to compare outputs on; default: random inputs.")
    ] = None,
    max_kl: Annotated[
        float | None, typer.Option(metavar="K", help="Largest KL to TUNED, in nats, that is no failure.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Every number.")] = None,
) -> None:
    """Read an adapter back: weights against its card and against TUNED, outputs against TUNED's.

    Exit code 1: it differs from what its card records by more than 1e-4 relative, its configuration does not fit its
    tensors, or KL is above --max-kl. A low rank is no failure, nor is a folder without lorascope.json or README.md,
    which is said.
    """
    if max_kl is not None and not max_kl >= 0:
        raise SpecError(f"--max-kl must be at least 0, got {max_kl}")
    if json_file is not None:
        output_file(json_file, "--json")
    from rich.console import Console  # noqa: PLC0415

    from .. import hf  # noqa: PLC0415

    with hf.quiet(), bar("Verifying") as progress:
        found = hf.verify(base, tuned, adapter, texts, max_kl, progress)
    if json_file is not None:
        write(json_file, (json.dumps({**asdict(found), "faults": found.faults}, indent=1) + "\n").encode())
    _print(Console(highlight=False), found)
    if found.faults:
        raise typer.Exit(1)


def _print(console: "Console", found: "Verified") -> None:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(title="Parameters furthest off", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("", overflow="fold")
    for head in ("norm of the\ndifference", "left over", "recorded"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in sorted(found.rows, key=lambda row: -row.residual)[:_SHOWN]:
        recorded = "-" if row.recorded is None else f"{row.recorded:.4g}"
        table.add_row(row.name, f"{row.norm:.4g}", f"{row.residual:.4g}", recorded)
    console.print(table)
    console.print(f"Relative error of all {len(found.rows)} parameters that differ: {found.error:.4g}.", soft_wrap=True)
    outputs = found.functional
    if outputs.error is None:
        console.print(f"Outputs: {outputs.inputs}.", soft_wrap=True, markup=False)
    else:
        kl = (
            "" if outputs.kl is None else f", KL to TUNED {outputs.kl:.4g} (BASE with its heads: {outputs.base_kl:.4g})"
        )
        same = "" if outputs.agreement is None else f", same largest output {outputs.agreement:.1%}"
        console.print(
            f"Outputs on {outputs.inputs}: relative error {outputs.error:.3g}{kl}{same}.", soft_wrap=True, markup=False
        )
    if found.configurations:
        console.print(found.configurations, soft_wrap=True, markup=False)
    if found.missing:
        console.print(f"The folder lacks {' and '.join(found.missing)}.", soft_wrap=True)
    if not found.card:
        console.print("It has no record of residuals to compare with.")
    faults = found.faults
    for fault in faults[:_SHOWN]:
        console.print(f"Falls short: {fault}.", soft_wrap=True, markup=False)
    if len(faults) > _SHOWN:
        console.print(f"... and {len(faults) - _SHOWN} more")
    if not faults:
        console.print("Verified: the adapter is what its card records." if found.card else "Nothing falls short.")
