"""Which function computes the cells of which method."""

from collections.abc import Callable

from ...errors import SpecError
from ...linalg import threads_for
from ...theory import Model
from ..networks import draw_pair
from .constructed import constructed, refined
from .gradient import allocation, gradient
from .measured import Measured, Spec
from .proximity import distance
from .whole import biases, full, last_layers

__all__ = ["cell"]

METHODS: dict[str, Callable[[Spec, Model, Model, str], list[Measured]]] = {
    "gradient": gradient,
    "last-layers": last_layers,
    "full": full,
    "biases": biases,
    "paper": constructed,
    "stable": constructed,
    "refined": refined,
}


def cell(spec: Spec, device: str = "cpu") -> list[Measured]:
    """All that a cell measures; it depends on the spec alone, not on order, batch or worker.

    Args:
        spec: from :func:`lorascope.experiments.grid`.
        device: of gradient steps; constructions run on the CPU.

    Raises:
        SpecError: an unknown method.
        LorascopeError: the whole cell cannot be computed; where one rank of several cannot, it has a mapping without
            metrics.
    """
    method = spec["method"]
    if method not in METHODS:
        raise SpecError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    compute = allocation if "allocation" in spec else METHODS[method]
    with threads_for(spec["width"]):
        frozen, target = draw_pair(spec)
        found = compute(spec, frozen, target, device)
        return [*found, distance(spec, frozen, target, found)] if spec.get("measure") == "proximity" else found
