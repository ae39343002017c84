"""What a network makes of inputs, bit for bit the same on every CPU of one kind."""

import ctypes
from ctypes import byref, c_void_p

import torch
from torch import Tensor

from ...models import FNN
from ...shapes import Float
from .interface import FIXED, CBatch, CJob, CLayer, padded, up

__all__ = ["CompiledOutputs"]


class CompiledOutputs:
    """A float32 FNN as the kernel computes it: torch's products differ by a last bit from one CPU to another.

    Args:
        library: the kernel.
        model: float32, on the CPU; as it is now.
    """

    def __init__(self, library: ctypes.CDLL, model: FNN) -> None:
        self._library, self._relu = library, model.activation == "relu"
        self._kept: list[Tensor] = []  # what the kernel has addresses of
        shapes = [layer.weight.shape for layer in model.linears]
        self._inputs, self._outputs = shapes[0][1], shapes[-1][0]
        layers: list[CLayer] = []
        for layer, (out, inp) in zip(model.linears, shapes, strict=True):
            weight = layer.weight.detach()
            bias = layer.bias.detach() if model.has_bias else weight.new_zeros(out)
            fixed = [padded(weight, both=True), padded(weight.T, both=True), padded(bias)]
            self._kept += fixed
            layers.append(CLayer(inp, out, FIXED, 0, 0, 0, 0, 0, *(value.data_ptr() for value in fixed)))
        self._layers = (CLayer * len(layers))(*layers)

    def __call__(self, inputs: Float[Tensor, "*batch inp"]) -> Float[Tensor, "*batch out"]:
        """The outputs, as a contiguous tensor or a view of one."""
        rows = padded(inputs.reshape(-1, self._inputs))
        found = torch.empty(len(rows), up(self._outputs))
        job = CJob(layers=self._layers, depth=len(self._layers), relu=self._relu)
        job.held_out = CBatch(rows.data_ptr(), None, len(rows))
        if self._library.lorascope_outputs(byref(job), c_void_p(found.data_ptr())) != 0:
            raise MemoryError("the kernel found no memory for 64 rows of hidden values")
        return found[:, : self._outputs].unflatten(0, inputs.shape[:-1])
