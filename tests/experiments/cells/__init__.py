"""Cells, one module a kind."""
