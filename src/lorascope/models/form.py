"""Refusing transformers that are not the paper's."""

from ..errors import ShapeError
from .transformer import TransformerNetwork

__all__ = ["check_paper_form"]


def check_paper_form(what: str, **networks: TransformerNetwork) -> None:
    """Raise unless all are of the paper's form.

    Args:
        what: needs that form, for the message.
        networks: by role.

    Raises:
        ShapeError: one that is not, with what is other than the paper's.

    >>> check_paper_form("the bound", target=TransformerNetwork(4, 2, 1))
    """
    for role, network in networks.items():
        if network.is_paper_form:
            continue
        usual = {"attention_bias": False, "residual": False, "norm_place": None}
        usual |= dict.fromkeys(("head_dim", "ffn_dim"), network.embed_dim)
        found = {name: getattr(network, name) for name in usual}
        came = ", ".join(f"{name}={value!r}" for name, value in found.items() if value != usual[name])
        raise ShapeError(
            f"{what} needs the paper's form of transformer (head_dim and ffn_dim {network.embed_dim}; no skips, "
            f"normalisations or attention biases), got {role} with {came}; adaptation.bound_variant bounds the error "
            f"of adapted transformers of every form"
        )
