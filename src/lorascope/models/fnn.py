"""Fully connected networks of one width: the paper's FNN, and the linear network as its special case."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import ShapeError, SpecError
from ..shapes import Float

__all__ = ["FNN"]

Activation = Literal["relu", "identity"]


class FNN(nn.Module):
    """``z_l = ReLU(W_l z_{l-1} + b_l)``, with the ReLU on the last layer too; the output is ``z_L``.

    With ``activation="identity"`` and ``bias=False`` it is the paper's linear model ``W_L ... W_1 x``.
    Weights and biases start as U(-1/sqrt(width), 1/sqrt(width)), torch's default for a linear layer.

    Args:
        width: D, of every layer, input and output.
        depth: L, the number of layers.
        activation: ``"relu"`` or ``"identity"``, after every layer.
        bias: whether the layers have biases. The constructions tune biases, so a ReLU model needs them.
        generator: where the random numbers come from; torch's own by default.
        dtype: float32 or float64.

    Raises:
        ShapeError: width or depth below 1.
        SpecError: another activation.

    Source: Zeng & Lee 2024, Section 3.

    >>> FNN(4, 2)(torch.zeros(7, 4, dtype=torch.float64)).shape
    torch.Size([7, 4])
    """

    def __init__(
        self,
        width: int,
        depth: int,
        activation: Activation = "relu",
        bias: bool = True,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if width < 1 or depth < 1:
            raise ShapeError(f"an FNN needs width and depth of at least 1, got width {width}, depth {depth}")
        if activation not in ("relu", "identity"):
            raise SpecError(f'activation must be "relu" or "identity", got {activation!r}')
        self.activation: Activation = activation
        device = generator.device if generator is not None else None
        self.layers = nn.ModuleList(_linear(width, width, bias, dtype, device) for _ in range(depth))
        bound = width**-0.5
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-bound, bound, generator=generator)

    @classmethod
    def from_weights(
        cls,
        weights: Sequence[Float[Tensor, "_ _"]],
        biases: Sequence[Float[Tensor, " _"]] | None = None,
        activation: Activation = "relu",
    ) -> "FNN":
        """The network with these weights, copied.

        Args:
            weights: (out, in) each, first layer first; each layer's ``in`` is the ``out`` before it.
            biases: (out,) each; ``None`` gives a network without biases.
            activation: as above.

        Raises:
            ShapeError: no layer, layers that do not chain, or biases that do not fit.
        """
        if not weights or any(weight.ndim != 2 or 0 in weight.shape for weight in weights):
            shapes = [tuple(weight.shape) for weight in weights]
            raise ShapeError(f"weights must be a list of at least one (out, in) matrix, got shapes {shapes}")
        for index, (first, second) in enumerate(pairwise(weights)):
            if second.shape[1] != first.shape[0]:
                raise ShapeError(
                    f"layer {index + 1} takes {second.shape[1]} inputs, but layer {index} has {first.shape[0]} outputs"
                )
        if biases is not None and [tuple(b.shape) for b in biases] != [(w.shape[0],) for w in weights]:
            wanted, came = [(w.shape[0],) for w in weights], [tuple(b.shape) for b in biases]
            raise ShapeError(f"biases must have the shapes {wanted}, got {came}")
        network = cls(1, 1, activation, biases is not None, torch.Generator(), weights[0].dtype)
        network.layers = nn.ModuleList(
            _linear(w.shape[1], w.shape[0], biases is not None, w.dtype, w.device) for w in weights
        )
        with torch.no_grad():
            for index, layer in enumerate(network.linears):
                layer.weight.copy_(weights[index])
                if biases is not None:
                    layer.bias.copy_(biases[index])
        return network

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers, typed."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    @property
    def depth(self) -> int:
        return len(self.layers)

    @property
    def width(self) -> int:
        """D: the largest side of any layer."""
        return max(max(layer.weight.shape) for layer in self.linears)

    @property
    def has_bias(self) -> bool:
        return all(layer.bias is not None for layer in self.linears)

    def forward(self, inputs: Float[Tensor, "*batch inp"]) -> Float[Tensor, "*batch out"]:
        hidden = inputs
        for layer in self.linears:
            hidden = layer(hidden)
            if self.activation == "relu":
                hidden = torch.relu(hidden)
        return hidden


def _linear(inp: int, out: int, bias: bool, dtype: torch.dtype, device: torch.device | None) -> nn.Linear:
    # by way of the meta device, for torch's own init would draw from the global random state
    return nn.Linear(inp, out, bias=bias, dtype=dtype, device="meta").to_empty(device=device or "cpu")
