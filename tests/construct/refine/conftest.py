import jaxtyping
import pytest

from contracts.cases import BRIEF_PROFILE
from lorascope.construct.refine import PROFILES


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """A refinement of a few steps goes through the same code."""
    monkeypatch.setitem(PROFILES, "fast", BRIEF_PROFILE)


@pytest.fixture
def unchecked_annotations():
    """The annotations forbid some input, and where they are checked they would speak first."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
