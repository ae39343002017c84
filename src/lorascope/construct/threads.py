"""How many threads small matrices deserve: as for all linear algebra."""

from ..linalg import threads_for

__all__ = ["threads_for"]
