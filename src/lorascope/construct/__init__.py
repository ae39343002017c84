"""Adaptation in closed form: (frozen, target, rank) -> adapters and their certificate."""

from .paper import paper
from .stable import stable
from .stacked import stack_heads, stacked

__all__ = ["paper", "stable", "stack_heads", "stacked"]
