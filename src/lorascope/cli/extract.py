"""``lorascope extract``: a fine-tune as a LoRA adapter."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import SpecError
from ..progress import bar
from .executor import processes

if TYPE_CHECKING:
    from rich.console import Console

    from ..hf import Extracted

__all__ = ["extract"]

_SHOWN = 10  # matrices, and lines of what is left out


def extract(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The model before fine-tuning: folder or hub name.")],
    tuned: Annotated[str, typer.Argument(metavar="TUNED", help="After it: folder, hub name or adapter's folder.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The adapter's folder: new, empty, or an earlier one.")],
    rank: Annotated[int | None, typer.Option(metavar="R", help="Of every matrix; default: at most 64.")] = None,
    params: Annotated[int | None, typer.Option(metavar="N", help="Entries of all A and B at most.")] = None,
    max_error: Annotated[
        float | None,
        typer.Option(
            metavar="E", help="Relative Frobenius error of all differences together; weighted with --calibration."
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="One text a line: weigh errors, and spread the ranks, by what matters on them."
        ),
    ] = None,
    refine: Annotated[
        int, typer.Option(metavar="STEPS", min=0, help="Train the factors against TUNED on the calibration texts.")
    ] = 0,
    modules: Annotated[
        str | None, typer.Option(metavar="RE", help="Regular expression: only modules whose names match.")
    ] = None,
    exclude: Annotated[str | None, typer.Option(metavar="RE", help="Regular expression: none of these.")] = None,
    profile: Annotated[Literal["peft", "vllm", "llamacpp"], typer.Option(help="Who will load it.")] = "peft",
    dtype: Annotated[
        str | None, typer.Option(metavar="D", help="Of A and B: float32, float16, bfloat16; default: TUNED's.")
    ] = None,
    base_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the adapter calls its base; default: BASE, never a path.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="D", help="Of the products: cpu, cuda, cuda:1.")] = "cpu",
    workers: Annotated[
        int, typer.Option(min=0, metavar="N", help="Processes that take the matrices; 0: this one, one by one.")
    ] = 0,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Dask scheduler whose workers take them; they must see the same folders."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would be; write nothing.")] = False,
) -> None:
    """Turn a fine-tune into a LoRA adapter of its base, and prove the file by reading it back.

    Interrupted, the same command goes on where it stopped. The folder appears when it is whole, with a card that says
    how far each matrix is off, what is left out, and how to load it.
    """
    _check_device(device)
    from rich.console import Console  # noqa: PLC0415

    from .. import hf  # noqa: PLC0415

    with hf.quiet(), processes(workers, cluster) as executor, bar("Extracting") as progress:
        found = hf.extract(
            base, tuned, out, rank=rank, parameters=params, max_error=max_error, calibration=calibration,
            refine_steps=refine, modules=modules, exclude=exclude, profile=profile, dtype=dtype, base_name=base_name,
            device=device, executor=executor, dry_run=dry_run, progress=progress,
        )  # fmt: skip
    _print(Console(highlight=False), found, None if dry_run else out)


def _check_device(device: str) -> None:
    import torch  # noqa: PLC0415

    try:
        torch.zeros(1, device=device).item()  # of no device without values
    except (RuntimeError, AssertionError):
        raise SpecError(f"--device must be one this machine has, got {device}; cpu always works") from None


def _print(console: "Console", found: "Extracted", out: Path | None) -> None:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    worst = sorted(found.rows, key=lambda row: -row.residual)
    table = Table(title="Matrices furthest off", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("", overflow="fold")
    for head in ("rank", "norm of the\ndifference", "relative\nerror"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in worst[:_SHOWN]:
        table.add_row(row.name, str(row.rank), f"{row.norm:.3g}", f"{row.relative:.3g}")
    console.print(table)
    ranks = [row.rank for row in found.rows]
    console.print(
        f"{len(ranks)} matrices, ranks {min(ranks, default=0)} to {max(ranks, default=0)}, relative error of all "
        f"together {found.error:.4g}{_weighted(found)}; {found.parameters:,} parameters in A and B, "
        f"{found.whole:,} carried whole; "
        f"{found.bytes / 1e6:.3g} MB; vLLM needs --max-lora-rank {found.max_lora_rank or 'beyond what it takes'}.",
        soft_wrap=True,
    )
    for line in found.told:
        console.print(line, soft_wrap=True, markup=False)
    for entry in found.left_out[:_SHOWN]:
        console.print(f"Left out: {entry.name}: {entry.reason}", soft_wrap=True, markup=False)
    if len(found.left_out) > _SHOWN:
        console.print(f"... and {len(found.left_out) - _SHOWN} more{'' if out is None else '; the card has them'}")
    outputs = found.functional
    if outputs is not None and outputs.error is not None:
        kl = "" if outputs.kl is None else f", KL to TUNED {outputs.kl:.3g} (BASE: {outputs.base_kl:.3g})"
        console.print(f"Outputs on {outputs.inputs}: relative error {outputs.error:.3g}{kl}.", soft_wrap=True)
    elif outputs is not None:
        console.print(f"Outputs compared: {outputs.inputs}.", soft_wrap=True)
    console.print("Nothing written: a dry run." if out is None else f"Adapter: {out}", soft_wrap=True, markup=False)


def _weighted(found: "Extracted") -> str:
    return "" if found.weighted_error is None else f" (weighted {found.weighted_error:.4g})"
