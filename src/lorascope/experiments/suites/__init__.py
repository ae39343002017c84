"""The suites that come with lorascope, one TOML file each."""

import tomllib
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from ...errors import SpecError
from ..spec import Suite, TaskSuite, parse_any

__all__ = ["load_suite", "suite_names"]


def suite_names() -> list[str]:
    """The names of the suites that come with lorascope.

    >>> "fnn" in suite_names()
    True
    """
    found = (file.name for file in files(__name__).iterdir())
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def load_suite(name: str) -> Suite | TaskSuite:
    """A suite that comes with lorascope, or one of your own.

    Args:
        name: one of :func:`suite_names`, or the path of a file that ends in ``.toml``.

    Raises:
        SpecError: no such suite, or a file that describes none; all faults at once.

    >>> load_suite("fnn").title
    'ReLU networks of two and four layers'
    """
    if name.endswith(".toml"):
        return parse_any(_content(Path(name), name), name)
    if name not in suite_names():
        raise SpecError(
            f"a suite must be one of {', '.join(suite_names())}, or a TOML file of your own (its path ends in .toml), "
            f"got {name!r}"
        )
    return parse_any(_content(files(__name__) / f"{name}.toml", name), f"the suite {name}")


def _content(file: Traversable, name: str) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        # the second: neither TOML nor UTF-8
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SpecError(f"a suite must be a TOML file that can be read, got {name} ({reason}); mend it") from None
