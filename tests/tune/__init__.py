"""Tests of gradient adaptation, and the plain PyTorch loop they compare with."""
