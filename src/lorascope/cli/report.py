"""``lorascope report``: records as a folder of pages that open in any browser, without a network."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]

PATIENCE = 2.0  # seconds without a bar


def report(
    results: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the records.")] = Path("lorascope-results"),
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the pages; made if missing, an older report is replaced.")
    ] = Path("lorascope-report"),
) -> None:
    """Write the records as pages: plots, filters and tables suite by suite, bounds, and where each number comes from.

    Open index.html in a browser; nothing is fetched from any network.
    """
    # polars and the templates take their time, which --help should not
    from ..progress import bar  # noqa: PLC0415
    from ..report import write_report  # noqa: PLC0415

    with bar("Report", after=PATIENCE) as progress:
        index = write_report(results, out, progress)
    typer.echo(f"Report: {index}")
