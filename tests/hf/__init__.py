"""Tests of real checkpoints; all need the extra [hf]."""
