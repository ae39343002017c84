"""What the kernel takes: the structures of job.h, and tensors as it reads them."""

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_int32, c_int64, c_uint8, c_void_p

import torch
from torch import Tensor

from ..batches import Batch

__all__ = ["ADAPTED", "FIXED", "WHOLE", "CBatch", "CJob", "CLayer", "Rows", "padded", "up"]

GROUP = 16  # floats that rows of all matrices are padded to, as the kernel has it
FIXED, ADAPTED, WHOLE = range(3)


class CLayer(ctypes.Structure):
    """``Layer`` of job.h."""

    _fields_ = (
        *((name, c_int32) for name in ("inputs", "outputs", "kind", "shifted")),
        *((name, c_int64) for name in ("right", "left", "weight", "bias")),
        *((name, c_void_p) for name in ("frozen", "turned", "fixed")),
    )


class CBatch(ctypes.Structure):
    """``Batch`` of job.h."""

    _fields_ = (("inputs", c_void_p), ("targets", c_void_p), ("rows", c_int64))


class CJob(ctypes.Structure):
    """``Job`` of job.h."""

    _fields_ = (
        ("layers", POINTER(CLayer)),
        *((name, c_int32) for name in ("depth", "relu", "members", "steps", "decoupled", "objective")),
        *((name, c_int64) for name in ("size", "done")),
        *((name, c_void_p) for name in ("state", "first", "second", "kept", "best", "ranks")),
        *((name, c_void_p) for name in ("rates", "left_rates", "decay")),
        ("batches", POINTER(CBatch)),
        ("checked", POINTER(c_uint8)),
        ("held_out", CBatch),
        ("losses", c_void_p),
    )


class Rows:
    """Batches as the kernel reads them: row by row, padded with zeros. Chunks that share one share the work."""

    def __init__(self) -> None:
        self._seen: Sequence[Batch] = ()
        self._found: tuple[ctypes.Array[CBatch], list[Tensor]] | None = None

    def of(self, block: Sequence[Batch]) -> ctypes.Array[CBatch]:
        """The block's batches, which are all of one shape; they live until the next block is asked for."""
        if self._found is None or self._seen is not block:
            sides = [padded(torch.stack(side)) for side in zip(*block, strict=True)]
            made = (CBatch * len(block))(
                *(CBatch(x.data_ptr(), y.data_ptr(), len(x)) for x, y in zip(*sides, strict=True))
            )
            self._seen, self._found = block, (made, sides)
        return self._found[0]


def up(count: int) -> int:
    """The next whole group."""
    return -(-count // GROUP) * GROUP


def padded(values: Tensor, *, both: bool = False) -> Tensor:
    """Contiguous, with zeros to whole groups of columns, and of rows where ``both``."""
    right = up(values.shape[-1]) - values.shape[-1]
    below = up(values.shape[-2]) - values.shape[-2] if both else 0
    pads = (0, right, 0, below) if values.ndim > 1 else (0, right)
    return torch.nn.functional.pad(values, pads).contiguous()
