"""What several tests of runs compare with."""

import pytest

from experiments.quick import SUITE, table
from lorascope.experiments import run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The table of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    run(SUITE, "smoke", folder)
    return table(folder)
