"""Which parameters of a model take an adapter."""

from torch import nn

__all__ = ["weight_names"]


def weight_names(model: nn.Module) -> list[str]:
    """Names of the weight matrices, in order; a bias with a heads axis is none.

    >>> weight_names(nn.Linear(2, 3))
    ['weight']
    """
    named = model.named_parameters()
    return [name for name, parameter in named if parameter.ndim >= 2 and not name.endswith("bias")]
