"""What every way of adapting returns."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from ..models import Adapter
from .domain import Domain

__all__ = ["EXACT", "Adaptation", "Certificate"]

Model_co = TypeVar("Model_co", bound=nn.Module, covariant=True)

# Error bound relative to the target's largest output at which an adaptation counts as exact.
EXACT = {torch.float64: 1e-6, torch.float32: 1e-3}


@dataclass(frozen=True)
class Certificate:
    """What is known of an adaptation's error, for every input of its domain.

    Attributes:
        error_bound: finite; at least the supremum over the domain of the Euclidean norm of the output error (for
            transformers: of its largest token), with the residual of the construction and the rounding of both
            models' evaluation counted in.
        expected_error_bound: bound on the mean of that norm over the samples, indeed on its root mean square; None
            where a sample lies outside the domain, and from gradient steps (``tune``). It speaks of these samples:
            ``theory.population_bound`` says what they tell of the distribution that they come from.
        residual: largest relative Frobenius residual over the matched products, from the merged weights.
        exact: every gap is closed, and ``error_bound`` is at most 1e-6 (float32: 1e-3) of the target's largest output.
        domain: where all this holds.
        conditions: what limits exactness (rank, obstruction, conditioning), in words and numbers.
    """

    error_bound: float
    expected_error_bound: float | None
    residual: float
    exact: bool
    domain: Domain
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Adaptation(Generic[Model_co]):
    """Adapters for a frozen model, the model with them merged in, and the certificate.

    Attributes:
        model: of the frozen model's class, with its state_dict keys.
        adapters: parameter name -> adapter.
        biases: parameter name -> new value.
        certificate: how far off the target it is.
        method: what built it.
        seconds: wall time it took.
    """

    model: Model_co
    adapters: dict[str, Adapter]
    biases: dict[str, Tensor]
    certificate: Certificate
    method: str
    seconds: float = field(compare=False, default=0.0)
