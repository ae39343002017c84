"""Without the extra there is one line that says what to install."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.hf

# finds neither package, as on a machine that has none of the extra
PROGRAM = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"transformers", "peft", "accelerate", "psutil", "huggingface_hub"}:
            raise ModuleNotFoundError(name)
import importlib.util
find = importlib.util.find_spec
sys.meta_path.insert(0, Absent())
import lorascope.hf.extra as extra
extra.find_spec = lambda name: None if name in {"transformers", "peft"} else find(name)
from lorascope.cli import main
sys.argv = ["lorascope", "ranks", sys.argv[1], sys.argv[1]]
main()
"""


def test_one_line_says_what_to_install(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    ran = subprocess.run([sys.executable, "-c", PROGRAM, tmp_path], capture_output=True, text=True, check=False)
    assert ran.returncode == 2, ran.stderr
    assert ran.stderr.count("\n") == 1
    assert "transformers and peft" in ran.stderr
    assert "pip install 'lorascope[hf]'" in ran.stderr
