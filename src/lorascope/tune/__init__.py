"""Adaptation by gradient steps, many runs at once: (frozen, target) -> adapters and their certificate."""

from .compiled import Engine, engine_for
from .ensemble import ensemble
from .methods import biases, full, last_layers, lora
from .settings import Member
from .start import Start

__all__ = ["Engine", "Member", "Start", "biases", "engine_for", "ensemble", "full", "last_layers", "lora"]
