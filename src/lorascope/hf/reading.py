"""Files that others wrote: whatever is wrong with one is said in one line."""

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from ..errors import CheckpointError, LorascopeError

__all__ = ["few", "read_object", "reading"]

_SHOWN = 3  # faults that a message names


@contextmanager
def reading(what: Path | str, required: str, remedy: str = "download or save it again") -> Generator[None]:
    """Turn a fault of what is being read into a ``CheckpointError``.

    Args:
        what: the file, or a model's name with it.
        required: what it must be.
        remedy: what to do.

    Raises:
        CheckpointError: the block failed; what it says itself in lorascope's words is left as it is.

    >>> with reading("config.json", "a JSON object"):
    ...     {}["hidden_size"]
    Traceback (most recent call last):
    lorascope.errors.CheckpointError: config.json must be a JSON object, but it lacks hidden_size; \
download or save it again
    """
    try:
        yield
    except (LorascopeError, MemoryError):
        raise
    # other libraries' readers raise whatever they like on damaged files
    except Exception as error:  # noqa: BLE001
        told = " ".join(_reason(error).split()).rstrip(".") or type(error).__name__
        raise CheckpointError(f"{what} must be {required}, but {told}; {remedy}") from None


def few(faults: Sequence[str]) -> str:
    """The first three faults, and how many more there are.

    >>> few(["a", "b", "c", "d"])
    'a; b; c; and 1 more'
    """
    more = len(faults) - _SHOWN
    return "; ".join(faults[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError) and error.args:
        return f"it lacks {error.args[0]}"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def read_object(file: Path) -> dict[str, Any]:
    """A file's JSON object.

    Raises:
        CheckpointError: it is none.
    """
    with reading(file, "a JSON object"):
        found: object = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError(f"it is a {type(found).__name__}")
        return cast("dict[str, Any]", found)
