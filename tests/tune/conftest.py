"""Fixtures of these tests alone."""

import jaxtyping
import pytest


@pytest.fixture
def unchecked_annotations():
    """The annotations forbid some of this input, and where they are checked they would speak first."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
