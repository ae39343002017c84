"""Records in, one static folder of pages out; nothing is computed here, and torch is not needed."""

from .write import write_report

__all__ = ["write_report"]
