"""A progress bar for whatever takes ``progress=``; the mathematics itself knows no terminal."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic

__all__ = ["bar"]


@contextmanager
def bar(title: str = "Adapting", after: float = 0.0) -> Generator[Callable[[float, str], None]]:
    """Draw a bar on stderr while the block runs: what is being done, the share done, the time left.

    Nothing is drawn where stderr is no terminal, so logs stay clean.

    Args:
        title: stands before what is being done.
        after: seconds in which nothing is drawn yet, for what is mostly done sooner.

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
    drawn = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task, begun = drawn.add_task(title, total=1.0), monotonic()

    def update(share: float, what: str) -> None:
        drawn.update(task, completed=share, description=f"{title}: {what}")
        if monotonic() - begun >= after:
            drawn.start()

    try:
        if not after:
            drawn.start()
        yield update
    finally:
        drawn.stop()
