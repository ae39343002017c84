"""What a suite is called, and the command that computes one of its cells again."""

import shlex
import tomllib
from functools import cache
from importlib.resources import files

from .runs import Run

__all__ = ["command", "place", "title"]

# as the paper has its figures; others follow by name
ORDER = (
    "linear", "fnn", "fnn-depths", "tfn", "exactness", "certificates", "final-layers", "methods", "bias",
    "rank-allocation", "depth", "proximity", "optimization-gap", "convergence", "generalization", "distribution-shift",
    "classification", "binary", "glue",
)  # fmt: skip
DEFAULT_SCALE = "smoke"  # of ``lorascope run``


@cache
def _shipped() -> dict[str, str]:
    """Name -> title of the suites that come with lorascope."""
    # read as files, for importing the experiments loads torch
    folder = files("lorascope") / "experiments" / "suites"
    found = (file for file in folder.iterdir() if file.name.endswith(".toml"))
    return {
        file.name.removesuffix(".toml"): str(tomllib.loads(file.read_text(encoding="utf-8")).get("title", ""))
        for file in found
    }


def title(suite: str) -> str:
    """The suite's title; its name where it does not come with lorascope.

    >>> title("fnn"), title("mine")
    ('ReLU networks of two and four layers', 'mine')
    """
    return _shipped().get(suite) or suite


def place(suite: str) -> tuple[int, str]:
    """Sorts suites as they are to be read.

    >>> sorted(["mine", "depth", "fnn"], key=place)
    ['fnn', 'depth', 'mine']
    """
    return ORDER.index(suite) if suite in ORDER else len(ORDER), suite


def command(run: Run) -> str:
    """Computes the run's cell again; nothing where no ``lorascope run`` computed it."""
    if run.suite not in _shipped() and "scale" not in run.spec:
        return ""
    # the records have the name of a suite of the user's own, not its file
    name = run.suite if run.suite in _shipped() else f"{run.suite}.toml"
    scale = [] if run.scale == DEFAULT_SCALE else ["--scale", run.scale]
    return shlex.join(["lorascope", "run", name, *scale, "--only", run.cell])
