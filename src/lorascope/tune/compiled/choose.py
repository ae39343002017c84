"""Which engine computes the steps."""

import os
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from ...errors import SpecError
from ...models import FNN
from ...theory import Model
from .build import load

__all__ = ["Engine", "EngineName", "engine_for"]

EngineName = Literal["auto", "torch", "compiled"]
VARIABLE = "LORASCOPE_ENGINE"
# Wider layers leave the first-level cache, and torch's products are as fast.
WIDEST = 128


@dataclass(frozen=True)
class Engine:
    """What computes the steps.

    Attributes:
        name: ``"torch"`` or ``"compiled"``.
        why: that one; of the compiled one, what it was built by and for.
    """

    name: Literal["torch", "compiled"]
    why: str


def engine_for(frozen: Model, engine: EngineName = "auto") -> Engine:
    """The engine that trains such a model here.

    The compiled one trains FNNs in float32 on the CPU, up to width 128, where it can be built: its results are bit for
    bit the same on every CPU of one kind (x86-64 with AVX2 or AVX-512; 64-bit ARM), and many times faster.

    Args:
        frozen: the model.
        engine: ``"auto"`` takes the compiled one where it can, or what the environment variable ``LORASCOPE_ENGINE``
            says; ``"torch"`` or ``"compiled"`` that one.

    Raises:
        SpecError: another name, or ``"compiled"`` where it cannot be.

    >>> engine_for(FNN(4, 2), "torch")
    Engine(name='torch', why='asked for')
    >>> engine_for(FNN(4, 2, dtype=torch.float64)).why
    'the compiled engine computes in float32, the model in float64'
    """
    wanted: str = engine if engine != "auto" else os.environ.get(VARIABLE, "") or "auto"
    if wanted not in get_args(EngineName):
        source = "engine" if engine != "auto" else VARIABLE
        raise SpecError(f"{source} must be one of {', '.join(get_args(EngineName))}, got {wanted!r}")
    if wanted == "torch":
        return Engine("torch", "asked for")
    obstacle = _obstacle(frozen)
    built = load() if obstacle is None else None
    if built is not None and built.library is not None:
        return Engine("compiled", built.why)
    why = obstacle or (built.why if built is not None else "")
    if wanted == "compiled":
        raise SpecError(f'engine "compiled" cannot train this model here ({why}); take "torch" or "auto"')
    return Engine("torch", why)


def _obstacle(frozen: Model) -> str | None:
    """What keeps the kernel from this model, whatever the machine."""
    if not isinstance(frozen, FNN):
        return f"the compiled engine trains FNNs, the model is a {type(frozen).__name__}"
    weight = frozen.linears[0].weight
    if weight.dtype != torch.float32:
        return f"the compiled engine computes in float32, the model in {str(weight.dtype).removeprefix('torch.')}"
    if weight.device.type != "cpu":
        return f"the compiled engine runs on the CPU, the model is on {weight.device}"
    widest = max(max(layer.weight.shape) for layer in frozen.linears)
    return f"torch is as fast from width {WIDEST + 1} on, the model has {widest}" if widest > WIDEST else None
