"""A progress bar for whatever takes ``progress=``; the mathematics itself knows no terminal."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

__all__ = ["bar"]


@contextmanager
def bar(title: str = "Adapting") -> Generator[Callable[[float, str], None]]:
    """Draw a bar on stderr while the block runs: what is being done, the share done, the time left.

    Nothing is drawn where stderr is no terminal, so logs stay clean.

    Args:
        title: stands before what is being done.

    Yields:
        What to pass as ``progress=``: called with the share done (0 to 1) and a few words.

    >>> with bar("Refining") as progress:
    ...     progress(0.5, "Adam")
    """
    # loaded here: rich takes its time, and a machine that only computes may not have it
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = TextColumn("{task.description:<40}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as drawn:
        task = drawn.add_task(title, total=1.0)

        def update(share: float, what: str) -> None:
            drawn.update(task, completed=share, description=f"{title}: {what}")

        yield update
