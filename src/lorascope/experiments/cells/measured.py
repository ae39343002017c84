"""What a cell hands back."""

from collections.abc import Mapping
from typing import Any, TypedDict

__all__ = ["Measured", "Spec", "row"]

Spec = Mapping[str, Any]


class Measured(TypedDict):
    """One method at one rank.

    ``rank`` is None where adapters have none or several; ``metrics`` is empty, and ``message`` says why, where the
    method gave no result. Metrics: ``test_mse`` over fresh inputs and coordinates; ``parameters``, the entries of the
    matrices that are trained, and ``bias_parameters``; of gradient methods ``validation_mse``, and the ``lr`` and
    ``weight_decay`` that had the lowest; of constructions ``error_bound`` from the certificate.
    """

    method: str
    rank: int | None
    metrics: dict[str, float]
    seconds: float
    message: str


def row(spec: Spec, rank: int | None, metrics: dict[str, float], seconds: float, message: str = "") -> Measured:
    """One of the cell's method."""
    return {"method": spec["method"], "rank": rank, "metrics": metrics, "seconds": seconds, "message": message}
