"""Adapters below the threshold: closed-form starts, refined on inputs, written as adapters of the rank allowed."""

from .source import InputSource, input_source

__all__ = ["InputSource", "input_source"]
