"""Adaptation by construction: (frozen, target, rank) -> adapters and their certificate."""

from .paper import paper
from .refined import refined, refined_path
from .stable import stable

__all__ = ["paper", "refined", "refined_path", "stable"]
