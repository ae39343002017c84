"""The suite of ten short cells that runs are tried on."""

from experiments.tiny import QUICK
from lorascope.experiments import grid, parse_suite
from lorascope.records import cell_name, read

SUITE = parse_suite(QUICK, "quick")
NAMES = [cell_name(spec) for spec in grid(SUITE, "smoke")]


def table(folder):
    """The records but for the seconds, which no two runs share."""
    return read(folder).drop("seconds")
