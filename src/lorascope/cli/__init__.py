"""The command line: ``lorascope COMMAND``."""

from .app import main

__all__ = ["main"]
