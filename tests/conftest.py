"""What every test runs under: checked annotations, fixed seeds, one thread."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when numpy and torch load, so before either does

from jaxtyping import install_import_hook

# before anything imports lorascope; the tower lets an int stand for a float, as type checkers do
install_import_hook("lorascope", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("lorascope", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("lorascope")


@pytest.fixture
def generator() -> torch.Generator:
    """A source of random numbers that is the same in every test."""
    return torch.Generator().manual_seed(0)
