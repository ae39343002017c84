"""The steps of small fully connected networks in C++, built by the machine's own compiler; torch is the other way."""

from .build import load
from .choose import Engine, EngineName, engine_for
from .chunk import CompiledChunk
from .interface import Rows
from .outputs import CompiledOutputs

__all__ = ["CompiledChunk", "CompiledOutputs", "Engine", "EngineName", "Rows", "engine_for", "load"]
