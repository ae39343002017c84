"""Adaptation by gradient steps, many runs at once: (frozen, target) -> adapters and their certificate."""

from .ensemble import ensemble
from .methods import biases, full, last_layers, lora
from .settings import Member
from .start import Start

__all__ = ["Member", "Start", "biases", "ensemble", "full", "last_layers", "lora"]
