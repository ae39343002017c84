"""Switching the checks of annotations off, for input that they forbid."""

from contextlib import contextmanager

import jaxtyping


@contextmanager
def jaxtyping_off():
    """Where annotations are checked they would speak before the function does."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
