"""The public face: what importing lorascope gives, and what it leaves alone."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import lorascope
from lorascope.adaptation import Adaptation, Ball, Box, Certificate
from lorascope.adaptation_file import load_adaptation, save_adaptation
from lorascope.construct import refined
from lorascope.theory import rank_needed

HEAVY = ("matplotlib", "numpy", "scipy", "sklearn", "torch", "typer")


def test_importing_it_loads_no_heavy_library():
    code = f"import sys, lorascope; print([name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_that_check_would_notice_torch():
    code = f"import sys, lorascope; lorascope.adapt; print([name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" in found.stdout


def test_version_is_the_installed_packages():
    assert lorascope.__version__ == version("lorascope")


@pytest.mark.parametrize("name", lorascope.__all__)
def test_every_public_name_is_there(name: str):
    assert getattr(lorascope, name) is getattr(lorascope, name)


def test_public_names_are_the_subpackages_own():
    own = {
        "Adaptation": Adaptation,
        "Ball": Ball,
        "Box": Box,
        "Certificate": Certificate,
        "adapt": refined,
        "load_adaptation": load_adaptation,
        "rank_needed": rank_needed,
        "save_adaptation": save_adaptation,
    }
    assert {name: getattr(lorascope, name) for name in own} == own


def test_dir_is_the_public_names_sorted():
    assert dir(lorascope) == sorted(lorascope.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'lorascope' has no attribute 'adopt'"):
        lorascope.adopt  # noqa: B018 (looking it up is the test)
