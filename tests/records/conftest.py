"""Fixtures of these tests alone."""

import pytest

from reference.annotations import jaxtyping_off


@pytest.fixture
def unchecked_annotations():
    """The annotations forbid some of this input, and where they are checked they would speak first."""
    with jaxtyping_off():
        yield
