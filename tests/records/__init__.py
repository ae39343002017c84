"""Tests of the result table; a package, for they share rows and a process to kill."""
