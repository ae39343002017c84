"""Adaptation in closed form: (frozen, target, rank) -> adapters and their certificate."""

from .paper import paper
from .stable import stable

__all__ = ["paper", "stable"]
