"""A chunk of members whose steps the kernel computes."""

import ctypes
import math
from collections.abc import Mapping, Sequence
from ctypes import byref, c_uint8

import torch
from torch import Tensor

from ...models import FNN
from ...optim import OBJECTIVES, ObjectiveName
from ...shapes import Float
from ..batches import Batch
from ..layout import Layout
from ..settings import Setting
from .interface import ADAPTED, FIXED, WHOLE, CBatch, CJob, CLayer, Rows, padded, up

__all__ = ["CompiledChunk"]


class CompiledChunk:
    """Members that the kernel trains, one after the other; see :class:`.engine.Chunk`.

    What is kept is four numbers a parameter and member; what a step touches is a member's parameters and 64 rows of
    hidden values, whatever the batch.

    Args:
        library: the kernel.
        frozen: float32, on the CPU.
        layout, settings: of the members.
        members: their places among all.
        lowest: the first layer that is not in the inputs of the batches already.
        rows: shared by all chunks of a run.
        objective: what is minimised.
        decoupled: AdamW instead of Adam.
    """

    engine = "compiled"

    def __init__(
        self,
        library: ctypes.CDLL,
        frozen: FNN,
        layout: Layout,
        settings: Sequence[Setting],
        members: list[int],
        lowest: int,
        rows: Rows,
        objective: ObjectiveName = "mse",
        decoupled: bool = False,
    ) -> None:
        self.members, self._library, self._rows, self._held_out = members, library, rows, Rows()
        self._layout, self._lowest = layout, lowest
        self._places: dict[str, tuple[int, tuple[int, int]]] = {}
        self._relu = frozen.activation == "relu"
        self._weights: list[Tensor] = []  # what the kernel has addresses of
        layers = [self._layer(frozen, index) for index in range(lowest, frozen.depth)]
        self._layers = (CLayer * len(layers))(*layers)
        self._size = sum(math.prod(shape) for _, shape in self._places.values())
        self._shapes = [value.shape for value in layout.start(frozen, settings)]
        self._state = torch.zeros(4, len(members), self._size)  # parameters, moments, and the best parameters
        for view, value in zip(self._views(self._state[0]), layout.start(frozen, settings), strict=True):
            view.copy_(value)
        self._state[3] = self._state[0]
        self.best = torch.full((len(members),), math.inf)
        names = [f"layers.{index}.weight" for index in range(lowest, frozen.depth)]
        self._ranks = torch.tensor(
            [[setting.ranks.get(name, 0) for name in names] for setting in settings], dtype=torch.int32
        )
        self._objective, self._decoupled = OBJECTIVES.index(objective), decoupled
        self._rates = torch.tensor([setting.lr for setting in settings], dtype=torch.float64)
        self._left_rates = self._rates * layout.lr_ratio
        self._decay = torch.tensor([setting.weight_decay for setting in settings], dtype=torch.float64)
        self._done = 0

    @property
    def kept(self) -> list[Tensor]:
        return [view.contiguous() for view in self._views(self._state[3])]

    def advance(
        self, block: Sequence[Batch], start: int, checked: Sequence[int], held_out: Batch
    ) -> Float[Tensor, "checked members"]:
        checks = (c_uint8 * len(block))(*(step in checked for step in range(start, start + len(block))))
        losses = torch.empty(len(checked), len(self.members))
        self._run(self._rows.of(block), len(block), checks, held_out, losses)
        self._done += len(block)
        return losses

    def finish(self, held_out: Batch) -> Float[Tensor, " members"]:
        losses = torch.empty(len(self.members))
        self._run(None, 1, (c_uint8 * 1)(1), held_out, losses)
        return losses

    def state(self) -> dict[str, Tensor]:
        return {"state": self._state.clone(), "best": self.best.clone(), "count": torch.tensor(self._done)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._state.copy_(state["state"])
        self.best.copy_(state["best"])
        self._done = int(state["count"])

    def _run(
        self,
        batches: ctypes.Array[CBatch] | None,
        steps: int,
        checks: ctypes.Array[c_uint8],
        held_out: Batch,
        losses: Tensor,
    ) -> None:
        job = CJob(
            layers=self._layers,
            depth=len(self._layers),
            relu=self._relu,
            members=len(self.members),
            steps=steps,
            decoupled=self._decoupled,
            objective=self._objective,
            size=self._size,
            done=self._done,
            batches=batches,
            checked=checks,
            held_out=self._held_out.of([held_out])[0],
        )
        addresses = {
            "state": self._state[0],
            "first": self._state[1],
            "second": self._state[2],
            "kept": self._state[3],
            "best": self.best,
            "ranks": self._ranks,
            "rates": self._rates,
            "left_rates": self._left_rates,
            "decay": self._decay,
            "losses": losses,
        }
        for name, tensor in addresses.items():
            setattr(job, name, tensor.data_ptr())
        if self._library.lorascope_train(byref(job)) != 0:
            raise MemoryError("the kernel found no memory for one member's hidden values")

    def _layer(self, frozen: FNN, index: int) -> CLayer:
        """What the kernel is told of a layer; its parameters get their places in a member's state."""
        weight, name = frozen.linears[index].weight.detach(), f"layers.{index}"
        outputs, inputs = weight.shape
        bias = frozen.linears[index].bias.detach() if frozen.has_bias else weight.new_zeros(outputs)
        rank = self._layout.ranks.get(f"{name}.weight", 0)
        whole, shifted = f"{name}.weight" in self._layout.full, f"{name}.bias" in self._layout.biases
        height, width = up(outputs), up(inputs)
        fixed = [padded(weight, both=True), padded(weight.T, both=True), padded(bias)]
        self._weights += fixed
        return CLayer(
            inputs,
            outputs,
            ADAPTED if rank else WHOLE if whole else FIXED,
            shifted,
            self._place(f"{name}.A", (up(rank), width)),
            self._place(f"{name}.B", (up(rank), height)),
            self._place(f"{name}.weight", (height if whole else 0, width)),
            self._place(f"{name}.bias", (1, height if shifted else 0)),
            *(value.data_ptr() for value in fixed),
        )

    def _place(self, name: str, shape: tuple[int, int]) -> int:
        start = sum(math.prod(taken) for _, taken in self._places.values())
        self._places[name] = start, shape
        return start

    def _views(self, flat: Float[Tensor, "members size"]) -> list[Tensor]:
        """The parameters in the layout's order, as views of members' states."""

        def view(name: str) -> Tensor:
            start, shape = self._places[name]
            return flat[:, start : start + math.prod(shape)].unflatten(1, shape)

        adapted = [name.removesuffix(".weight") for name in self._layout.ranks]
        padded = [view(f"{name}.A") for name in adapted]
        padded += [view(f"{name}.B").mT for name in adapted]
        padded += [view(name) for name in self._layout.full]
        padded += [view(name).squeeze(1) for name in self._layout.biases]
        return [
            value[(slice(None), *(slice(size) for size in shape[1:]))]
            for value, shape in zip(padded, self._shapes, strict=True)
        ]
