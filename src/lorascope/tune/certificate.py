"""What is known of a tuned model's error on a whole domain."""

import torch

from ..adaptation import (
    EXACT,
    Ball,
    Certificate,
    Domain,
    TransformerBounds,
    bound_networks,
    bound_transformer,
    bound_variant,
    largest_output,
    region_of,
)
from ..models import FNN, TransformerNetwork
from ..optim import ObjectiveName
from ..theory import Model, coarser_dtype

__all__ = ["Judge"]

TOKENS = 8  # of the sequences that look for the target's largest output


class Judge:
    """Certificates for tuned models; what does not depend on them is found once.

    Args:
        frozen, target: checked.
        domain: default ``Ball(6 sqrt(width))``.
        objective: what the losses are.

    Raises:
        SpecError, ShapeError: a domain that does not fit.
    """

    def __init__(self, frozen: Model, target: Model, domain: Domain | None, objective: ObjectiveName = "mse") -> None:
        self._target, self._loss = target, "mean squared error" if objective == "mse" else "mean KL divergence"
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
            loss: on held-out inputs.
        """
        error, residual = self._bound(model)
        limit = EXACT[coarser_dtype(model, self._target)] * self._largest
        exact = error <= limit
        note = (
            f"gradient steps: {self._loss} {loss:.3g} on held-out inputs; on the domain the error is bounded by "
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
        bounds = _bound_transformers(model, self._target, radius)
        return bounds.error, bounds.residual


def _bound_transformers(model: TransformerNetwork, target: TransformerNetwork, radius: float) -> TransformerBounds:
    if model.is_paper_form and target.is_paper_form and model.embed_dim == target.embed_dim:
        return bound_transformer(model, target, radius)
    # steps tie no coordinates of the tuned tokens to others than the target's own
    eye = torch.eye(model.embed_dim, dtype=torch.float64, device=model.output.weight.device)
    return bound_variant(model, _widened(target, model.embed_dim), radius, [eye] * model.depth)


def _widened(target: TransformerNetwork, width: int) -> TransformerNetwork:
    """The same function of tokens padded with zeros; its heads and hidden units stay as few as they are.

    Hidden units that a narrower target lacks are on after gradient steps, and this way they count.
    """
    narrow = target.embed_dim
    if narrow == width:
        return target
    made = TransformerNetwork(
        width, target.num_heads, target.depth, target.head_dim, target.ffn_dim, dtype=target.output.weight.dtype
    ).to(target.output.weight.device)
    values = dict(target.named_parameters())
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            value = values[name]
            parameter.zero_()
            parameter[tuple(slice(size) for size in value.shape)] = value
    return made
