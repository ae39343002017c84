"""Adaptation by gradient steps, many runs at once: (frozen, target) -> adapters and their certificate."""

from .ensemble import ensemble
from .methods import biases, full, last_layers, lora
from .settings import Member

__all__ = ["Member", "biases", "ensemble", "full", "last_layers", "lora"]
