"""Tensors of safetensors files: what the header says of them, and one at a time in memory."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import CheckpointError
from .reading import reading

__all__ = ["Stored", "read_header", "same"]

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_LENGTH = 8  # bytes that hold the header's length


@dataclass(frozen=True)
class Stored:
    """One tensor of a file.

    Attributes:
        file: the safetensors file.
        key: its name there.
        shape: as stored.
        dtype: as stored.
    """

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    def load(self) -> Tensor:
        """The tensor, as stored.

        Raises:
            CheckpointError: it holds a value that is not finite.
        """
        with reading(self.file, "a safetensors file"), safe_open(self.file, framework="pt") as file:
            tensor = file.get_tensor(self.key)
        if tensor.is_floating_point() and not _finite(tensor):
            bad = int((~torch.isfinite(tensor)).sum())
            raise CheckpointError(
                f"weights must be finite, got {bad} NaN or infinite values in {self.key} of {self.file}; "
                f"save the model again, or take another checkpoint of the run"
            )
        return tensor


def same(one: Tensor, other: Tensor) -> bool:
    """The same shape and values, whatever the storage types."""
    if one.dtype != other.dtype:
        one, other = one.double(), other.double()
    return torch.equal(one, other)


def _finite(tensor: Tensor) -> bool:
    """By the extremes, which NaN reaches too: one pass without a mask of the tensor's size."""
    return tensor.numel() == 0 or all(bool(torch.isfinite(end)) for end in torch.aminmax(tensor))


def read_header(file: Path) -> dict[str, Stored]:
    """What a safetensors file holds, without reading the tensors.

    Raises:
        CheckpointError: no such format, a truncated file, or a quantised type.

    Cost O(tensors).
    """
    size = file.stat().st_size
    with reading(file, "a safetensors file"), file.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH), "little")
        if length > size - _LENGTH:
            raise ValueError("the header is cut off")
        entries: Any = json.loads(stream.read(length))
        if not isinstance(entries, dict):
            raise TypeError("its header is no JSON object")
        entries.pop("__metadata__", None)
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
        unknown = sorted({str(entry["dtype"]) for entry in entries.values()} - _DTYPES.keys())
    if size != _LENGTH + length + end:
        raise CheckpointError(
            f"{file} must have {_LENGTH + length + end} bytes, has {size}: it is truncated or damaged; "
            f"download or save it again"
        )
    if unknown:
        raise CheckpointError(
            f"weights must be float64, float32, float16 or bfloat16, got {', '.join(unknown)} in {file}; "
            f"dequantise the model first"
        )
    with reading(file, "a safetensors file"):
        return {key: _stored(file, key, entry) for key, entry in entries.items()}


def _stored(file: Path, key: str, entry: dict[str, Any]) -> Stored:
    shape, dtype = tuple(int(side) for side in entry["shape"]), _DTYPES[entry["dtype"]]
    begun, ended = entry["data_offsets"]
    if math.prod(shape) * dtype.itemsize != ended - begun:
        raise ValueError(f"{key} of shape {list(shape)} has {ended - begun} bytes")
    return Stored(file, key, shape, dtype)
