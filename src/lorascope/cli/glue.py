"""``lorascope glue``: fine-tune an encoder on a task of GLUE, by adapters or otherwise."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..progress import bar

if TYPE_CHECKING:
    from rich.console import Console

    from ..hf.glue import Run

__all__ = ["glue"]


def glue(
    task: Annotated[str, typer.Argument(metavar="TASK", help="One of cola, mnli, mrpc, qnli, qqp, rte, sst2, stsb.")],
    model: Annotated[str, typer.Option(metavar="DIR", help="An encoder: folder or hub name, such as roberta-base.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="For the model or adapter: new, empty, or an earlier one.")],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder with TASK/train.tsv and TASK/dev.tsv; default: the hub's nyu-mll/glue."
        ),
    ] = None,
    method: Annotated[
        Literal["lora", "full", "last-layers", "bitfit"],
        typer.Option(help="What is trained beside the classification head."),
    ] = "lora",
    rank: Annotated[int, typer.Option(metavar="R", help="Of every adapter; 0: the head alone.")] = 8,
    modules: Annotated[
        str | None,
        typer.Option(metavar="RE", help="Regular expression: linear modules that get adapters; default: all."),
    ] = None,
    layers: Annotated[int, typer.Option(metavar="N", help="Of last-layers: how many.")] = 1,
    init: Annotated[
        Literal["pretrained", "random"], typer.Option(help="DIR's weights, or random ones of the same architecture.")
    ] = "pretrained",
    steps: Annotated[int, typer.Option(metavar="N", help="Optimiser steps at most.")] = 1000,
    lr: Annotated[
        float | None,
        typer.Option(metavar="X", help="Peak learning rate; default: by method, for a small model and short runs."),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", help="Rows a step, over all devices together.")] = 32,
    length: Annotated[int, typer.Option(metavar="N", help="Tokens of a row at most.")] = 128,
    dropout: Annotated[
        float, typer.Option(metavar="P", help="Wherever the model has some, while it is trained.")
    ] = 0.0,
    weight_decay: Annotated[float, typer.Option(metavar="X", help="Of AdamW.")] = 0.01,
    every: Annotated[
        int, typer.Option(metavar="N", help="Steps between looks at the development rows, and between checkpoints.")
    ] = 100,
    patience: Annotated[
        int, typer.Option(metavar="N", help="Looks without a better score before it stops; 0: the last step is kept.")
    ] = 5,
    seed: Annotated[int, typer.Option(metavar="S", help="Of every random draw.")] = 0,
    precision: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Of products while training; scores are float32.")
    ] = "float32",
) -> None:
    """Fine-tune an encoder on a task of GLUE and score it by the official metrics.

    Interrupted, the same command goes on where it stopped. The folder appears when it is whole: what ranks, extract and
    verify read, with its rows for lorascope.records.read(DIR). Runs on several GPUs under accelerate launch.
    """
    from rich.console import Console  # noqa: PLC0415

    from ..hf.extra import need_hf  # noqa: PLC0415

    need_hf()
    from ..hf import quiet  # noqa: PLC0415
    from ..hf.glue import Settings, run_task  # noqa: PLC0415

    settings = Settings(
        method=method, rank=rank, modules=modules, layers=layers, init=init, steps=steps, lr=lr, batch=batch,
        length=length, dropout=dropout, weight_decay=weight_decay, seed=seed, precision=precision, every=every,
        patience=patience,
    )  # fmt: skip
    with quiet(), bar(task) as progress:
        found = run_task(task, model, out, data, settings, progress=progress)
    if found.main:
        _print(Console(highlight=False), task, found, out)


def _print(console: "Console", task: str, found: "Run", out: Path) -> None:
    scores = ", ".join(f"{name} {value:.4f}" for name, value in found.metrics.items())
    trained, (train, dev) = found.trained, found.rows
    console.print(f"{task}: {scores} on {dev:,} development rows.", soft_wrap=True)
    if task == "mnli" and "accuracy_mismatched" not in found.metrics:
        console.print("Matched alone: there is no dev_mismatched.tsv.", soft_wrap=True)
    console.print(
        f"{trained.parameters:,} parameters trained, {trained.head:,} of them the head's; {trained.steps} steps on "
        f"{train:,} rows in {trained.seconds:.0f} s, the weights of step {trained.best}.",
        soft_wrap=True,
    )
    what = "Adapter" if found.adapter else "Model"
    console.print(f"{what}: {out}; its base: {found.base}", soft_wrap=True, markup=False)
