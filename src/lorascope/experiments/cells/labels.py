"""What a network says of an input's class, and how far two networks agree on it."""

from torch import Tensor

from ...optim import ObjectiveName, output_loss
from ...shapes import Float

__all__ = ["accuracy", "divergence", "named"]

TIE = 1e-9  # relative to the largest output of all inputs; rounding of exact adaptations is some 1e-13


def named(task: str, outputs: Float[Tensor, "*batch width"]) -> Tensor:
    """The class of every input, as an integer: the largest output, or which half of the outputs has the larger sum.

    Of several that are equal up to rounding it is the first: outputs of a ReLU are often zero, all of them.

    Args:
        task: ``"classification"`` or ``"binary"``.
        outputs: of a network.

    >>> import torch
    >>> named("binary", torch.tensor([[1.0, 2.0, 4.0, 0.0], [0.0, 0.0, 0.0, 0.0]])).tolist()
    [1, 0]
    """
    if task == "binary":
        outputs = outputs.unflatten(-1, (2, -1)).sum(-1)
    least = outputs.amax(-1, keepdim=True) - TIE * outputs.abs().max()
    return (outputs >= least).int().argmax(-1)


def accuracy(task: str, outputs: Float[Tensor, "*batch width"], wanted: Float[Tensor, "*batch width"]) -> float:
    """The share of inputs of which both name the same class."""
    return float((named(task, outputs) == named(task, wanted)).double().mean())


def divergence(
    task: ObjectiveName, outputs: Float[Tensor, "*batch width"], wanted: Float[Tensor, "*batch width"]
) -> float:
    """Mean KL of the class probabilities from those wanted, in nats: what gradient methods minimise in such a task."""
    found, goal = (values.flatten(0, -2).T for values in (outputs, wanted))
    value = found.new_empty(1)
    output_loss(task, (1, *found.shape), found).values(found[None], goal, value)
    return float(value)
