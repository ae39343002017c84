"""What can LoRA express? The rank a frozen model needs, the adapters in closed form, a certificate that holds."""

import importlib
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from .adaptation import Adaptation, Ball, Box, Certificate
    from .adaptation_file import load_adaptation, save_adaptation
    from .construct import refined as adapt
    from .theory import rank_needed

__all__ = [
    "Adaptation",
    "Ball",
    "Box",
    "Certificate",
    "__version__",
    "adapt",
    "load_adaptation",
    "rank_needed",
    "save_adaptation",
]

# loaded on first use: importing lorascope must not import torch
_HOMES = {
    "Adaptation": ("lorascope.adaptation", "Adaptation"),
    "Ball": ("lorascope.adaptation", "Ball"),
    "Box": ("lorascope.adaptation", "Box"),
    "Certificate": ("lorascope.adaptation", "Certificate"),
    "adapt": ("lorascope.construct", "refined"),
    "load_adaptation": ("lorascope.adaptation_file", "load_adaptation"),
    "rank_needed": ("lorascope.theory", "rank_needed"),
    "save_adaptation": ("lorascope.adaptation_file", "save_adaptation"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'lorascope' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
