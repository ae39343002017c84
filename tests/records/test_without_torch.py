"""Records are written and read where there is no torch."""

import subprocess
import sys

import pytest

CODE = """
import sys
sys.modules["torch"] = None  # importing it is an ImportError
from lorascope import records
row = records.ok_rows("s", {"x": 1}, {"m": 0.5}, method="m", rank=1, seconds=0.0, origin=records.provenance("cpu"))
records.write_part(sys.argv[1], row)
print(records.read(sys.argv[1])["value"].to_list(), len(records.done(sys.argv[1], "s")))
"""


def run(code, folder):
    return subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)


def test_torch_is_not_needed(tmp_path):
    done = run(CODE, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0.5] 1\n", "")


@pytest.mark.parametrize("module", ["lorascope.models", "torch"])
def test_that_check_would_notice_torch(tmp_path, module):
    done = run(CODE.replace("from lorascope import records", f"import {module}"), tmp_path)
    assert done.returncode == 1
    assert "import of torch halted" in done.stderr
