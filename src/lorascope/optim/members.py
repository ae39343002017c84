"""A chunk of members of :class:`.layered.LayeredGradient`: its views, its buffers, and the two passes through them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .objectives import ObjectiveName, output_loss

__all__ = ["Buffers", "Layer", "Members", "Workspace"]


class Buffers:
    """Hidden values of a chunk, (members, width, batch) each: batch last, for products with the batch as columns.

    Every view that a step needs is made once: at these sizes making one costs as much as a pass over the numbers.
    """

    def __init__(self, members: int, rows: int, widths: Sequence[int], objective: ObjectiveName, like: Tensor) -> None:
        self.hidden = [like.new_empty(members, width, rows) for width in widths]
        self.hidden_t = [value.mT for value in self.hidden]
        self.first = self.hidden[0].flatten(0, 1)
        self.loss = output_loss(objective, (members, widths[-1], rows), like)
        # the gradient by a layer's input takes the place of the layer's output, which is of no more use by then
        self.back = [
            above if above.shape == here.shape else torch.empty_like(here)
            for here, above in zip(self.hidden, self.hidden[1:], strict=False)
        ]


class Workspace:
    """Buffers by shape. Chunks that take turns share them, so that many members take no more room than a few."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], Buffers] = {}

    def __len__(self) -> int:
        """How many shapes there are."""
        return len(self._made)

    def of(self, members: int, rows: int, widths: tuple[int, ...], objective: ObjectiveName, like: Tensor) -> Buffers:
        """Buffers of that shape, the same ones each time; what is in them lasts until the next use."""
        key = members, rows, widths, objective, like.dtype, like.device
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = Buffers(members, rows, widths, objective, like)
        return found


class Layer:
    """One layer of a chunk: views of weights, parameters and gradients that stay the same from step to step.

    Args:
        weight: frozen, (out, inp) or (members, out, inp).
        fixed: bias that is not trained, (out,) or (members, out).
        values: all members' parameters of this layer by name: factors A and B, whole weight W, bias b.
        slots: their gradients.
        part: the members of the chunk.
    """

    def __init__(
        self,
        weight: Tensor,
        fixed: Tensor | None,
        values: Mapping[str, Tensor],
        slots: Mapping[str, Tensor],
        part: slice,
        like: Tensor,
    ) -> None:
        count = part.stop - part.start
        own, shared = weight.ndim == 3, weight.expand(count, *weight.shape[-2:]) if weight.ndim == 2 else weight
        base = (shared[part] if own else shared).to(like)
        self.factors = "A" in values and values["A"].shape[1] > 0
        if self.factors:
            self.base, self.A, self.B = base, values["A"][part], values["B"][part]
            self.A_t, self.B_t = self.A.mT, self.B.mT
            self.grad_A, self.grad_B = slots["A"][part], slots["B"][part]
        # as used: the sum, the parameter, or the frozen weight
        self.merged = (
            like.new_empty(base.shape) if self.factors else values["W"][part] if "W" in values else base.contiguous()
        )
        self.merged_t, self.merged_flat = self.merged.mT, self.merged.flatten(0, 1)
        # of the merged weight; where that is the parameter, the slot itself
        self.grad = slots["W"][part] if "W" in slots else like.new_empty(base.shape) if self.factors else None
        self.grad_flat = None if self.grad is None else self.grad.flatten(0, 1)
        bias = values["b"][part] if fixed is None else fixed[part] if fixed.ndim == 2 else fixed.expand(count, -1)
        self.bias = bias.to(like).unsqueeze(-1)  # members out 1
        self.bias_flat = self.bias.flatten(0, 1)
        self.grad_bias = slots["b"][part] if fixed is None else None

    @property
    def trained(self) -> bool:
        return self.grad is not None or self.grad_bias is not None

    def merge(self) -> None:
        if self.factors:
            torch.baddbmm(self.base, self.B, self.A, out=self.merged)

    def pull_back(self, upstream: Tensor, inputs_t: Tensor) -> None:
        """Gradients of a layer from that of its output before the activation.

        Args:
            upstream: (members, out, batch).
            inputs_t: (members, batch, inp), or (batch, inp) where all members see the same.
        """
        if self.grad_bias is not None:
            torch.sum(upstream, -1, out=self.grad_bias)
        if self.grad is None or self.grad_flat is None:
            return
        if inputs_t.ndim == 2:  # one product for all members
            torch.mm(upstream.flatten(0, 1), inputs_t, out=self.grad_flat)
        else:
            torch.bmm(upstream, inputs_t, out=self.grad)
        if self.factors:
            torch.bmm(self.B_t, self.grad, out=self.grad_A)
            torch.bmm(self.grad, self.A_t, out=self.grad_B)


class Members:
    """The members ``part``: merge, forward, backward."""

    def __init__(self, layers: Sequence[Layer], part: slice, relu: bool) -> None:
        self.layers, self.part, self.relu = layers, part, relu
        self.count = part.stop - part.start
        # nothing below the first trained layer needs a gradient
        self.lowest = next(index for index, layer in enumerate(layers) if layer.trained or index == len(layers) - 1)

    def merge(self) -> None:
        for layer in self.layers:
            layer.merge()

    def losses(self, inputs: Tensor, targets: Tensor, buffers: Buffers, out: Tensor) -> None:
        """Forward alone; the losses go to this chunk's place in ``out``.

        Args:
            inputs: (inp, batch), or (all members, inp, batch).
            targets: (out, batch), or (all members, out, batch).
            buffers: for as many members and rows.
            out: (all members,).
        """
        self._forward(inputs, buffers, output=True)
        buffers.loss.values(buffers.hidden[-1], self._own(targets), out[self.part])

    def backward(self, inputs: Tensor, targets: Tensor, buffers: Buffers, out: Tensor | None) -> None:
        """Forward and backward; gradients go to their slots, losses to ``out`` where they are wanted."""
        loss = buffers.loss
        self._forward(inputs, buffers, output=loss.couples or out is not None)
        loss.gradient(buffers.hidden[-1], self._own(targets), None if out is None else out[self.part])
        upstream = loss.upstream
        for index in range(len(self.layers) - 1, self.lowest - 1, -1):
            layer = self.layers[index]
            if self.relu:
                value = buffers.hidden[index]
                torch.ops.aten.threshold_backward.grad_input(upstream, value, 0, grad_input=upstream)
            layer.pull_back(upstream, buffers.hidden_t[index - 1] if index else self._own(inputs).mT)
            if index > self.lowest:
                upstream = torch.bmm(layer.merged_t, upstream, out=buffers.back[index - 1])

    def _own(self, values: Tensor) -> Tensor:
        return values if values.ndim == 2 else values[self.part]

    def _forward(self, inputs: Tensor, buffers: Buffers, output: bool) -> None:
        """Hidden values of every layer. The last activation may be left out: its gradient sees the sign alone."""
        first, hidden = self.layers[0], buffers.hidden
        if inputs.ndim == 2:
            torch.addmm(first.bias_flat, first.merged_flat, inputs, out=buffers.first)
        else:
            torch.baddbmm(first.bias, first.merged, inputs[self.part], out=hidden[0])
        for index in range(1, len(self.layers)):
            layer, below = self.layers[index], hidden[index - 1]
            if self.relu:
                below.relu_()
            torch.baddbmm(layer.bias, layer.merged, below, out=hidden[index])
        if self.relu and output:
            hidden[-1].relu_()
