"""From factors head by head to the adapters of a transformer, and what is said where a bias falls short."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..adaptation import Ball, Domain, region_of
from ..models import Adapter, TransformerNetwork

__all__ = ["assembled", "missed", "token_radius"]


def token_radius(domain: Domain, target: TransformerNetwork, frozen: TransformerNetwork) -> float:
    """Largest norm of a token in the domain."""
    region = region_of(domain, frozen.embed_dim, target.embed_dim, frozen.output.weight.detach())
    return domain.radius if isinstance(domain, Ball) else float(region.largest_moduli().norm())


def assembled(
    frozen: TransformerNetwork, parts: Mapping[str, Mapping[int, tuple[Tensor, Tensor]]]
) -> dict[str, Adapter]:
    """One adapter a parameter; the heads' factors (out, r) and (r, in) are padded with zeros to one rank."""
    adapters = {}
    for name, found in parts.items():
        weight = dict(frozen.named_parameters())[name]
        rank = max(b.shape[1] for b, _ in found.values())
        if rank == 0:
            continue
        heads = len(weight) if weight.ndim == 3 else 1
        left = torch.zeros(heads, weight.shape[-2], rank, dtype=weight.dtype, device=weight.device)
        right = torch.zeros(heads, rank, weight.shape[-1], dtype=weight.dtype, device=weight.device)
        for head, (b, a) in found.items():
            left[head, :, : b.shape[1]] = b.to(weight.dtype)
            right[head, : len(a)] = a[:, : weight.shape[-1]].to(weight.dtype)  # columns beyond are not seen
        flat = weight.ndim == 2
        adapters[name] = Adapter(A=right[0] if flat else right, B=left[0] if flat else left)
    return adapters


def missed(name: str, residual: Tensor, wanted: Tensor) -> list[str]:
    """What a bias leaves undone, in words; nothing where it is rounding."""
    size = float(wanted.norm())
    if float(residual.norm()) <= 1e-9 * max(size, 1e-300):
        return []
    relative = float(residual.norm()) / max(size, 1e-300)
    return [f"no bias {name} gives the target's (outside a singular matrix's range): relative residual {relative:.3g}"]
