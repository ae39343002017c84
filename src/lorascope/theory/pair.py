"""Is this a frozen model and a target that can be compared? Every fault of the input is found here, before any work."""

import math
from itertools import chain

import torch
from torch import nn

from ..errors import ShapeError, SpecError
from ..models import FNN, TransformerNetwork, weight_names

__all__ = ["Model", "check_pair", "coarser_dtype"]

Model = FNN | TransformerNetwork
# Powers of ten that the weights' largest entries may be away from 1, added up.
DECADES = 100


def check_pair(frozen: Model, target: Model) -> None:
    """Raise unless ``target`` is a model of the frozen one's kind, no deeper, no wider, and both are finite.

    Raises:
        ShapeError: kinds, depths, widths, heads or activations that do not fit; a frozen FNN of several widths;
            a frozen ReLU network without biases where the construction needs them.
        SpecError: a weight that is not finite.
    """
    for role, model in (("frozen", frozen), ("target", target)):
        if not isinstance(model, FNN | TransformerNetwork):
            raise ShapeError(f"{role} must be an FNN or a TransformerNetwork, got {type(model).__name__}")
    if isinstance(frozen, FNN) and isinstance(target, FNN):
        _check_fnn(frozen, target)
    elif isinstance(frozen, TransformerNetwork) and isinstance(target, TransformerNetwork):
        _check_transformer(frozen, target)
    else:
        raise ShapeError(
            f"frozen and target must be of one kind, got {type(frozen).__name__} and {type(target).__name__}"
        )
    for role, model in (("frozen", frozen), ("target", target)):
        _check_finite(role, model)
        _check_range(role, model)


def coarser_dtype(frozen: nn.Module, target: nn.Module) -> torch.dtype:
    """The dtype of the larger rounding error: what weights of the two models can be told apart by."""
    parameters = chain(frozen.parameters(), target.parameters())
    return max((parameter.dtype for parameter in parameters), key=lambda dtype: torch.finfo(dtype).eps)


def _check_finite(role: str, model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point():
            raise SpecError(f"{role} must have real weights, but {name} is {parameter.dtype}")
        if not torch.isfinite(parameter).all():
            bad = int((~torch.isfinite(parameter)).sum())
            raise SpecError(f"{role} must have finite weights, but {name} has {bad} entries that are NaN or infinite")


def _check_range(role: str, model: nn.Module) -> None:
    """Products of all weights must stay within float64."""
    weights = dict(model.named_parameters())
    sizes = [float(weights[name].detach().double().abs().max()) for name in weight_names(model)]
    decades = sum(abs(math.log10(size)) for size in sizes if size > 0)
    if decades > DECADES or any(math.isinf(size) for size in sizes):
        raise SpecError(
            f"{role} has weight matrices with entries up to {max(sizes):.3g} and {min(sizes):.3g}; "
            f"products of them leave the range of float64; rescale them"
        )


def _check_fnn(frozen: FNN, target: FNN) -> None:
    if frozen.activation != target.activation:
        raise ShapeError(
            f"frozen and target must share their activation, got {frozen.activation!r} and {target.activation!r}"
        )
    shapes = [tuple(layer.weight.shape) for layer in frozen.linears]
    if set(shapes) != {(frozen.width, frozen.width)}:
        raise ShapeError(f"frozen must have square weights of one width, got {shapes}; pad it with zeros")
    if target.depth > frozen.depth:
        raise ShapeError(f"target must be no deeper than frozen ({frozen.depth} layers), got {target.depth} layers")
    if target.width > frozen.width:
        raise ShapeError(f"target must be no wider than frozen (width {frozen.width}), got width {target.width}")
    if frozen.activation == "relu" and not frozen.has_bias:
        raise ShapeError(
            "a frozen ReLU network needs biases to tune, got one without; build it with bias=True (or zeros)"
        )


def _check_transformer(frozen: TransformerNetwork, target: TransformerNetwork) -> None:
    for what in ("depth", "num_heads", "embed_dim"):
        ours, theirs = getattr(frozen, what), getattr(target, what)
        if theirs > ours:
            raise ShapeError(f"target must have {what} of at most the frozen model's {ours}, got {theirs}")
    if target.depth < frozen.depth:
        raise ShapeError(
            f"frozen and target transformers must have one depth, got {frozen.depth} and {target.depth}; "
            f"no low-rank adapter turns a block of this form into the identity"
        )
    if not (frozen.is_paper_form and target.is_paper_form):
        _check_form(frozen, target)


def _check_form(frozen: TransformerNetwork, target: TransformerNetwork) -> None:
    """Transformers of another form than the paper's must share it."""
    for what in ("residual", "norm_place"):
        ours, theirs = getattr(frozen, what), getattr(target, what)
        if theirs != ours:
            raise ShapeError(f"frozen and target transformers must share {what}, got {ours!r} and {theirs!r}")
    for what in ("head_dim", "ffn_dim"):
        ours, theirs = getattr(frozen, what), getattr(target, what)
        if theirs > ours:
            raise ShapeError(f"target must have {what} of at most the frozen model's {ours}, got {theirs}")
    if target.attention_bias and not frozen.attention_bias:
        raise ShapeError(
            "target has attention biases, so frozen must have them to tune; build it with attention_bias=True and "
            "fill them with zeros"
        )
    if target.embed_dim < frozen.embed_dim:
        raise ShapeError(
            f"a target narrower than frozen is for the paper's form of transformers only: with skips, normalisations, "
            f"narrow heads or wide hidden layers embed_dim must be {frozen.embed_dim}, got {target.embed_dim}; pad it"
        )
