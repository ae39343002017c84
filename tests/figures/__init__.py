"""Suites, cells and runs."""
