"""The error of adapted transformers of any form on given samples: measured, with all rounding."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import ShapeError
from ..models import TransformerNetwork
from ..shapes import Float
from .variant_certificate import bound_variant

__all__ = ["variant_on_samples"]

# Samples treated at once.
CHUNK = 256


def variant_on_samples(
    model: TransformerNetwork, target: TransformerNetwork, samples: Float[Tensor, "samples seq embed"]
) -> Float[Tensor, " samples"]:
    """For each sample a bound on the largest token's error ``max_n |f(X)_n - fbar(X)_n|``, rounding counted.

    The error is measured in float64. What either network, evaluated in its own dtype, can be off what was measured is
    :func:`.bound_variant` between the network and its float64 copy, with the normalisations' scales that the samples
    have in place of the least possible ones.

    Args:
        model: adapted in whatever way, merged.
        target: of the same width.
        samples: (number, tokens, embed).

    Returns:
        (number,) bounds in float64.

    Raises:
        ShapeError: samples of another width.

    Source: new. Cost O(number depth heads tokens (width^2 + tokens width)).

    >>> same = TransformerNetwork(4, 2, 1, residual=True, norm="pre")
    >>> float(variant_on_samples(same, same, torch.eye(4).double()[None]).max()) < 1e-6
    True
    """
    if samples.ndim != 3 or samples.shape[2] != model.embed_dim or target.embed_dim != model.embed_dim:
        raise ShapeError(
            f"samples must be (number, tokens, {model.embed_dim}), the width of both networks, got "
            f"{tuple(samples.shape)} and a target of width {target.embed_dim}"
        )
    inputs = samples.detach().to(model.output.weight.device, torch.float64)
    outputs, stray = _run(model, inputs)
    wanted, own = _run(target, inputs)
    return (outputs - wanted).norm(dim=-1).amax(dim=1) + stray + own


def _run(network: TransformerNetwork, inputs: Tensor) -> tuple[Tensor, float]:
    """Outputs in float64, and a bound on how far those in the network's own dtype are off, token by token."""
    exact = copy.deepcopy(network).double()
    least: dict[str, float] = {}
    for name, norm in _norms(exact).items():
        norm.register_forward_pre_hook(_watch(least, name))
    with torch.no_grad():
        outputs = torch.cat([exact(part) for part in inputs.split(CHUNK)])
    own, other = copy.deepcopy(network), copy.deepcopy(network).double()
    for copied in (own, other):
        for name, norm in _norms(copied).items():
            # A normalisation takes tokens apart by at most 1 / sqrt(eps + variance) times their distance, with the
            # least variance between them. A quarter of a sample's scale is below that one, unless tokens are as far
            # apart as half the scale, and then the bound is 2 sqrt(width), which always holds.
            norm.eps = max(norm.eps, (least[name] + norm.eps) / 16)
    eye = torch.eye(network.embed_dim, dtype=torch.float64, device=inputs.device)
    radius = float(inputs.norm(dim=-1).max())
    return outputs, bound_variant(own, other, radius, [eye] * network.depth).error


def _norms(network: TransformerNetwork) -> dict[str, nn.LayerNorm]:
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.LayerNorm)}


def _watch(least: dict[str, float], name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        variance = float(inputs[0].var(dim=-1, correction=0).min())
        least[name] = min(least.get(name, variance), variance)

    return hook
