"""How far a run is, and how long the rest of it takes."""

from collections.abc import Mapping
from itertools import islice
from time import monotonic
from typing import Protocol, runtime_checkable

__all__ = ["Pace", "RunProgress", "Tell"]


@runtime_checkable
class RunProgress(Protocol):
    """Called before the first cell and after each.

    Args:
        done, total: cells recorded, and all there are.
        share: of the work of this run, 0 to 1, each cell weighed by its effort.
        left: seconds until the end, as far as can be told from the cells that ended; None before the first.
        what: the cell that ended, in a few words.
    """

    def __call__(self, done: int, total: int, share: float, left: float | None, what: str) -> None: ...


class Tell:
    """Counts cells and weighs them by their effort.

    Args:
        progress: whom to tell; None for nobody.
        total: cells, those included that were recorded before.
        efforts: of the cells to compute, in the order in which they are started.
    """

    def __init__(self, progress: RunProgress | None, total: int, efforts: Mapping[str, float]) -> None:
        self._progress, self._total, self._efforts = progress, total, efforts
        self._ended = total - len(efforts)
        self._left = self._all = sum(efforts.values())
        self._pace = Pace(efforts, monotonic())
        self._say(None, "")

    def ended(self, name: str, seconds: float | None, at_once: int | None, what: str) -> None:
        """Tell of one more cell; the arguments are those of ``Pace.ended`` and what to call it."""
        self._ended += 1
        self._left -= self._efforts[name]
        if self._progress is not None:
            self._say(self._pace.ended(name, seconds, at_once, monotonic()), what)

    def _say(self, left: float | None, what: str) -> None:
        if self._progress is not None:
            share = 1 - self._left / self._all if self._all else 1.0
            self._progress(self._ended, self._total, min(max(share, 0.0), 1.0), left, what)


class Pace:
    """The time left, from the seconds that the cells so far took for their effort.

    Cells that run beside each other end late and then nearly together. So those still running count with what they have
    left, the others with all of it, over the number that run at a time; and none is over before its longest is.
    Start-up, of which there is none later, counts for nothing.

    Args:
        efforts: of the cells, in the order in which they are started.
        now: seconds of a clock.

    >>> pace = Pace({"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}, now=0.0)
    >>> pace.ended("b", seconds=10.0, at_once=2, now=13.0)
    10.0
    """

    def __init__(self, efforts: Mapping[str, float], now: float) -> None:
        self._efforts, self._left = efforts, dict(efforts)
        self._since: dict[str, float] = {}  # when those that run were started
        self._started = now
        self._seconds = self._effort = 0.0  # of the cells that ended with a result

    def ended(self, name: str, seconds: float | None, at_once: int | None, now: float) -> float | None:
        """Seconds left after one more cell.

        Args:
            name: of the cell.
            seconds: that it took; None where it gave no result, which says nothing about the others.
            at_once: how many run at a time; None where nobody knows, and what was seen so far decides.
            now: on the clock.

        Returns:
            None where no cell has given a result yet.

        Cost O(cells).
        """
        effort = self._efforts[name]
        if seconds is not None:
            if not self._effort:  # the processes are up since this cell started
                self._started = max(self._started, now - seconds)
            self._seconds += seconds
            self._effort += effort
        seen = round(self._seconds / max(now - self._started, 1e-9))
        lanes = max(seen, 1) if at_once is None else max(at_once, 1)
        if len(self._left) == len(self._efforts):
            self._since = dict.fromkeys(islice(self._left, lanes), self._started)
        self._left.pop(name)
        self._since.pop(name, None)
        for started in islice(self._left, lanes):
            self._since.setdefault(started, now)
        return self._rest(lanes, now) if self._effort else None

    def _rest(self, lanes: int, now: float) -> float:
        rate = self._seconds / self._effort
        rest = [max(effort * rate - (now - self._since.get(name, now)), 0.0) for name, effort in self._left.items()]
        return max(sum(rest) / lanes, max(rest, default=0.0))
