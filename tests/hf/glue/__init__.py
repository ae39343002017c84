"""Tests of the tasks of GLUE."""
