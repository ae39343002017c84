"""An adapter's folder, written whole beside its place and read back before it goes there."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError
from .adapter_files import ADAPTER_WEIGHTS, PREFIX, open_adapter
from .adapter_tensors import Contents, config_of, factor_tensors
from .card import Row, card, record
from .checkpoint import ADAPTER_CONFIG
from .choose import Choice, hung
from .factors import Factors
from .functional import Compared, Functional, compare
from .measure import measured
from .pairs import Models, Pair
from .saving import save_tensors, saving
from .slots import Slot
from .style import Style
from .unread import unread
from .work import MARK, Work

__all__ = ["Written", "write_adapter", "write_files"]


@dataclass(frozen=True)
class Written:
    """An adapter's folder that was read back.

    Attributes:
        folder: where it is.
        rows: the matrices as measured.
        functional: outputs compared, or why they were not.
        how: in which way it was written, with what the card says.
    """

    folder: Path
    rows: list[Row]
    functional: Functional
    how: Style


def write_adapter(
    work: Work, models: Models, choice: Choice, found: Sequence[Factors], how: Style, compared: Compared | None
) -> Written:
    """Write everything, read it back, and write the card from what was read.

    Args:
        work: where to.
        models: base and tuned.
        choice: what is carried, and how.
        found: the factors of ``choice.factors``.
        how: in which way it is written.
        compared: on what the outputs are; None: they are not.

    Raises:
        CheckpointError: the file does not hold what was put into it, or PEFT cannot load it.
        SpecError: no room is left.
    """
    ready = work.folder / "adapter"
    shifts = {pair.module: factors.shift for pair, factors in zip(choice.factors, found, strict=True)}
    write_files(ready, models, choice, found, how)
    rows, kept, sizes = _read_back(models, choice, found, ready, how.dtype, shifts)
    ignored = unread(models, open_adapter(str(ready)), how.profile)
    if ignored and how.profile == "peft":
        raise CheckpointError(f"{ignored[0]}; leave what it names out by --exclude")
    if compared is None:
        functional = Functional("not run: not asked for; every matrix was read back")
    elif ignored:
        functional = Functional(f"not run: {ignored[0]}")
    else:
        functional = compare(models, ready, compared.batches, compared.described, how.profile)
    rounding = _rounding(found, rows, how.dtype)
    how = replace(how, told=(*how.told, rounding)) if rounding else how
    told = record(rows, kept, sizes, choice.left_out, functional, how)
    words = card(models, rows, kept, choice.left_out, functional, how)
    with saving(ready):
        (ready / MARK).write_text(json.dumps(told, indent=1, allow_nan=False) + "\n")
        (ready / "README.md").write_text(words)
        (ready / ADAPTER_WEIGHTS).chmod((ready / MARK).stat().st_mode)  # safetensors keeps it to its owner
    return Written(ready, rows, functional, how)


def write_files(folder: Path, models: Models, choice: Choice, found: Sequence[Factors], how: Style) -> None:
    """The two files that a loader reads, in a folder made anew.

    Raises:
        SpecError: no room is left.
    """
    shutil.rmtree(folder, ignore_errors=True)
    tensors, contents = _tensors(choice, found, how)
    config = config_of(contents, models.model, how)
    with saving(folder):
        folder.mkdir()
        save_tensors(folder / ADAPTER_WEIGHTS, tensors, {"format": "pt"})
        (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def _tensors(choice: Choice, found: Sequence[Factors], how: Style) -> tuple[dict[str, Tensor], Contents]:
    contents = Contents()
    tensors = _matrices(choice, found, how, contents)
    shifts = {pair.module: factors.shift for pair, factors in zip(choice.factors, found, strict=True)}
    for pair in choice.biases:
        contents.bias = True
        tensors[f"{PREFIX}{pair.module}.base_layer.bias"] = _bias(pair, shifts.get(pair.module))
    for module, weight in hung(choice, found).items():
        _add_zero(tensors, contents, module, weight, how.dtype)
    contents.saved.extend(choice.whole)
    for pair in choice.values:
        for name in (pair.name, *pair.slot.tied):
            tensors[PREFIX + name] = pair.tuned(pair.tuned_dtype)
        if pair.slot.outputs:
            contents.tied.setdefault(pair.module, ())
    return tensors, contents


def _bias(pair: Pair, shift: Tensor | None) -> Tensor:
    """A bias as it is carried: the tuned one, and the mean of what the factors of its matrix leave."""
    if shift is None:
        return pair.tuned(pair.tuned_dtype)
    return (pair.tuned(torch.float64) + shift).to(pair.tuned_dtype)


def _matrices(choice: Choice, found: Sequence[Factors], how: Style, contents: Contents) -> dict[str, Tensor]:
    """The factors' tensors."""
    given = [(pair, factors) for pair, factors in zip(choice.factors, found, strict=True) if factors.rank]
    for pair, factors in given:
        if pair.kind == "expert":
            contents.experts.setdefault(pair.module, {})[pair.name] = factors.rank
    tensors: dict[str, Tensor] = {}
    for pair, factors in given:
        depth = 0
        if pair.kind == "expert":
            stacked = list(contents.experts[pair.module])
            depth = len(stacked) - 1 - stacked.index(pair.name)
        else:
            _note(contents, pair, factors.rank)
        # llama.cpp multiplies by alpha over this rank, whatever alpha_pattern says
        B = factors.B * (factors.rank / how.rank) if how.profile == "llamacpp" else factors.B
        tensors.update(factor_tensors(pair, factors.A.to(how.dtype), B.to(how.dtype), depth))
    return tensors


def _note(contents: Contents, pair: Pair, rank: int) -> None:
    contents.ranks[pair.module] = rank
    contents.transposed |= pair.kind == "conv1d"
    if pair.slot.tied:
        contents.tied[pair.module] = tuple(name.removesuffix(".weight") for name in pair.slot.tied)


def _add_zero(
    tensors: dict[str, Tensor], contents: Contents, module: str, weight: Slot, dtype: torch.dtype
) -> None:  # fmt: skip
    shape = weight.shape[::-1] if weight.transposed else weight.shape
    tensors[f"{PREFIX}{module}.lora_A.weight"] = torch.zeros(1, shape[1], dtype=dtype)
    tensors[f"{PREFIX}{module}.lora_B.weight"] = torch.zeros(shape[0], 1, dtype=dtype)
    contents.ranks[module] = 1
    contents.transposed |= weight.transposed


def _read_back(
    models: Models, choice: Choice, found: Sequence[Factors], ready: Path, dtype: torch.dtype,
    shifts: Mapping[str, Tensor | None],
) -> tuple[list[Row], dict[str, float], dict[str, float]]:  # fmt: skip
    """Rows of the matrices, residuals of the rest, each no larger than it should be; and how large each change is.

    Raises:
        CheckpointError: one is.
    """
    whole = [*choice.values, *choice.biases]
    read = measured(models, ready, {pair.name for pair in (*choice.factors, *whole)})
    # casting either factor moves it by at most half an eps
    eps = torch.finfo(dtype).eps
    rows: list[Row] = []
    for pair, factors in zip(choice.factors, found, strict=True):
        # a product that was weighted or trained may be larger than the difference
        size = factors.norm + factors.residual
        allowed = factors.residual + (4 * eps + 1e-5) * size
        left = read[pair.name].residual
        if not left <= allowed:
            raise CheckpointError(
                f"{pair.name} must be read back with error {allowed:.3g}, has {left:.3g}: the file is not "
                f"what was put into it; check the disk and run again"
            )
        rows.append(Row(pair.name, pair.kind, pair.shape, factors.rank, factors.norm, left, factors.floor))
    for pair in whole:
        shift = shifts.get(pair.module) if pair.kind == "bias" else None
        meant = 0.0 if shift is None else float((_bias(pair, shift).double() - pair.tuned(torch.float64)).norm())
        if abs(read[pair.name].residual - meant) > 1e-5 * meant:
            raise CheckpointError(
                f"{pair.name} must be read back as it was written, but differs; check the disk and run again"
            )
    held = {row.name for row in rows if row.rank} | {pair.name for pair in whole}
    sizes = {name: value.size for name, value in read.items() if name in held}
    return rows, {pair.name: read[pair.name].residual for pair in whole}, sizes


def _rounding(found: Sequence[Factors], rows: Sequence[Row], dtype: torch.dtype) -> str:
    """A sentence where most of what the file leaves is the rounding of its factors; empty elsewhere."""
    norm, meant = (math.hypot(*(getattr(factors, what) for factors in found)) for what in ("norm", "residual"))
    left = math.hypot(*(row.residual for row in rows))
    if dtype == torch.float32 or left**2 <= 2 * meant**2:
        return ""
    name = str(dtype).removeprefix("torch.")
    return (
        f"Most of the error is rounding to {name}: unrounded factors leave {meant / norm:.3g}, which --dtype float32 "
        f"keeps in a file of twice the size."
    )
