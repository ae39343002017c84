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
    ``weight_decay`` that had the lowest; of constructions ``error_bound`` from the certificate. Where the task is to
    name classes, ``test_accuracy`` and ``test_kl`` too, and ``validation_kl`` instead of ``validation_mse``; with
    ``_shifted`` at the end what was measured on test inputs as many times as large as the cell's ``shift``. On few
    training inputs ``train_mse``; of a curve ``curve_mse@STEP``, the held-out loss of the best run before that step;
    where starts are compared ``start_mse``, the test error before the first.
    """

    method: str
    rank: int | None
    metrics: dict[str, float]
    seconds: float
    message: str


def row(spec: Spec, rank: int | None, metrics: dict[str, float], seconds: float, message: str = "") -> Measured:
    """One of the cell's method."""
    return {"method": spec["method"], "rank": rank, "metrics": metrics, "seconds": seconds, "message": message}
