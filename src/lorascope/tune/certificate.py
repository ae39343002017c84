"""What is known of a tuned model's error on a whole domain."""

from ..adaptation import (
    EXACT,
    Ball,
    Certificate,
    Domain,
    bound_networks,
    bound_transformer,
    largest_output,
    region_of,
)
from ..models import FNN, TransformerNetwork
from ..theory import Model, coarser_dtype

__all__ = ["Judge"]

TOKENS = 8  # of the sequences that look for the target's largest output


class Judge:
    """Certificates for tuned models; what does not depend on them is found once.

    Args:
        frozen, target: checked.
        domain: default ``Ball(6 sqrt(width))``.

    Raises:
        SpecError, ShapeError: a domain that does not fit.
    """

    def __init__(self, frozen: Model, target: Model, domain: Domain | None) -> None:
        self._target = target
        width = next(frozen.parameters()).shape[-1]
        self._domain: Domain = Ball(6 * width**0.5) if domain is None else domain
        if isinstance(target, FNN):
            weight, tokens = target.linears[0].weight, None
        else:
            weight, tokens = target.output.weight, TOKENS
        self._region = region_of(self._domain, width, weight.shape[1], weight.detach().double())
        self._largest = largest_output(target, self._domain, weight.shape[1], tokens=tokens)

    def __call__(self, model: Model, loss: float) -> Certificate:
        """The certificate of one model.

        Args:
            model: tuned, merged.
            loss: its mean squared error on held-out inputs.
        """
        error, residual = self._bound(model)
        limit = EXACT[coarser_dtype(model, self._target)] * self._largest
        exact = error <= limit
        note = (
            f"gradient steps: mean squared error {loss:.3g} on held-out inputs; on the domain the error is bounded by "
            f"{error:.3g}, exact means at most {limit:.3g}"
        )
        conditions = () if exact else (note,)
        return Certificate(error, None, residual, exact, self._domain, conditions)

    def _bound(self, model: Model) -> tuple[float, float]:
        if isinstance(model, FNN) and isinstance(self._target, FNN):
            bounds = bound_networks(model, self._target, self._domain)
            return bounds.error, bounds.residual
        assert isinstance(model, TransformerNetwork) and isinstance(self._target, TransformerNetwork)
        domain = self._domain
        radius = domain.radius if isinstance(domain, Ball) else float(self._region.largest_moduli().norm())
        bounds = bound_transformer(model, self._target, radius)
        return bounds.error, bounds.residual
