"""Adaptation by construction: (frozen, target, rank) -> adapters and their certificate."""

from .paper import paper
from .refined import refined, refined_path
from .stable import stable
from .stacked import stack_heads, stacked

__all__ = ["paper", "refined", "refined_path", "stable", "stack_heads", "stacked"]
