"""Which code ran, and where."""

import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .._version import __version__

__all__ = ["Provenance", "commit_of", "provenance"]


@dataclass(frozen=True)
class Provenance:
    """What every row of a run shares.

    Attributes:
        version: lorascope's.
        commit: of lorascope's checkout, with ``-dirty`` behind it where tracked files differ; None outside a checkout.
        device: where it ran, in the caller's words: ``"cpu"``, ``"NVIDIA H100"``.
    """

    version: str
    commit: str | None
    device: str


def provenance(device: str) -> Provenance:
    """Version and commit of the running lorascope, and the device the caller names.

    >>> provenance("cpu").device
    'cpu'
    """
    return Provenance(__version__, commit_of(Path(__file__)), device)


@cache
def commit_of(file: Path) -> str | None:
    """The commit of the checkout that tracks this file; None where none does or git is absent."""
    # an installed lorascope may lie inside somebody else's checkout (.venv/), whose commit says nothing about it
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None
    # no tag matches, so what is described is the commit itself
    return _git(file.parent, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    # GIT_DIR and its like, set inside git's hooks, would name another checkout
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
