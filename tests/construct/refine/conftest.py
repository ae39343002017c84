import pytest

from contracts.cases import BRIEF_PROFILE
from lorascope.construct.refine import PROFILES


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """A refinement of a few steps goes through the same code."""
    monkeypatch.setitem(PROFILES, "fast", BRIEF_PROFILE)
