"""One report of every suite's invented records, made once a worker."""

import pytest

from lorascope.report import write_report

from .samples import all_cells, write


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    return write(tmp_path_factory.mktemp("records"), all_cells())


@pytest.fixture(scope="session")
def pages(records, tmp_path_factory):
    return write_report(records, tmp_path_factory.mktemp("report") / "out").parent
