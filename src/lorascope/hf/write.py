"""An adapter's folder, written whole beside its place and read back before it goes there."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError
from .adapter_files import ADAPTER_WEIGHTS, PREFIX
from .adapter_tensors import Contents, config_of, factor_tensors
from .card import Row, card, record
from .checkpoint import ADAPTER_CONFIG
from .choose import Choice
from .factors import Factors
from .functional import Functional, compare
from .measure import residuals
from .pairs import Models, Pair
from .profiles import Profile
from .work import MARK, Work

__all__ = ["write_adapter"]


def write_adapter(
    work: Work, models: Models, choice: Choice, found: Sequence[Factors], dtype: torch.dtype, base_name: str,
    profile: Profile, largest: int, outputs: bool = True,
) -> tuple[Path, list[Row], Functional]:  # fmt: skip
    """Write everything, read it back, and write the card from what was read.

    Args:
        work: where to.
        models: base and tuned.
        choice: what is carried, and how.
        found: the factors of ``choice.factors``.
        dtype: of the factors.
        base_name: what the adapter says its base is.
        profile: who will load it.
        largest: the largest rank.
        outputs: compare them too.

    Returns:
        The folder, the rows as measured, and the outputs compared.

    Raises:
        CheckpointError: the file does not hold what was put into it.
    """
    ready = work.folder / "adapter"
    shutil.rmtree(ready, ignore_errors=True)
    ready.mkdir()
    tensors, contents = _tensors(choice, found, dtype, profile, largest)
    save_file(tensors, ready / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config = config_of(contents, models.model, base_name, profile, largest)
    (ready / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    rows, kept = _read_back(models, choice, found, ready, dtype)
    if not outputs:
        functional = Functional("not run: not asked for; every matrix was read back")
    elif profile != "peft":
        functional = Functional(f"not run: {profile} is not at hand; every matrix was read back")
    else:
        functional = compare(models, ready, None, "random inputs")
    told = record(rows, kept, choice.left_out, functional, profile, base_name, dtype)
    (ready / MARK).write_text(json.dumps(told, indent=1, allow_nan=False) + "\n")
    (ready / "README.md").write_text(card(models, rows, kept, choice.left_out, functional, profile, base_name, largest))
    (ready / ADAPTER_WEIGHTS).chmod((ready / MARK).stat().st_mode)  # safetensors keeps it to its owner
    return ready, rows, functional


def _tensors(
    choice: Choice, found: Sequence[Factors], dtype: torch.dtype, profile: Profile, largest: int
) -> tuple[dict[str, Tensor], Contents]:
    contents = Contents()
    tensors = _matrices(choice, found, dtype, None if profile == "peft" else largest, largest, contents)
    for pair in choice.biases:
        contents.bias = True
        tensors[f"{PREFIX}{pair.module}.base_layer.bias"] = pair.tuned(pair.tuned_dtype)
        if pair.module not in contents.ranks:
            # PEFT carries a bias beside factors only: rank 1, all zero
            _add_zero(tensors, contents, pair, dtype)
    for pair in choice.values:
        for name in (pair.name, *pair.slot.tied):
            tensors[PREFIX + name] = pair.tuned(pair.tuned_dtype)
        if pair.module not in contents.saved:
            contents.saved.append(pair.module)
        if pair.slot.tied:
            contents.tied.setdefault(pair.module, ())
    return tensors, contents


def _matrices(
    choice: Choice, found: Sequence[Factors], dtype: torch.dtype, padded: int | None, largest: int, contents: Contents
) -> dict[str, Tensor]:
    """The factors' tensors; all at one rank where they are to be padded, and experts always."""
    given = [(pair, factors) for pair, factors in zip(choice.factors, found, strict=True) if factors.rank]
    for pair, _ in given:
        if pair.kind == "expert":
            contents.experts.setdefault(pair.module, []).append(pair.name)
    tensors: dict[str, Tensor] = {}
    for pair, factors in given:
        rank, depth = padded or factors.rank, 0
        if pair.kind == "expert":
            stacked = contents.experts[pair.module]
            rank, depth = largest, len(stacked) - 1 - stacked.index(pair.name)
        else:
            _note(contents, pair, rank)
        tensors.update(factor_tensors(pair, factors.A.to(dtype), factors.B.to(dtype), rank, depth))
    return tensors


def _note(contents: Contents, pair: Pair, rank: int) -> None:
    contents.ranks[pair.module] = rank
    contents.transposed |= pair.kind == "conv1d"
    if pair.slot.tied:
        contents.tied[pair.module] = tuple(name.removesuffix(".weight") for name in pair.slot.tied)


def _add_zero(tensors: dict[str, Tensor], contents: Contents, pair: Pair, dtype: torch.dtype) -> None:
    weight = pair.beside
    assert weight is not None
    shape = weight.shape[::-1] if weight.transposed else weight.shape
    tensors[f"{PREFIX}{pair.module}.lora_A.weight"] = torch.zeros(1, shape[1], dtype=dtype)
    tensors[f"{PREFIX}{pair.module}.lora_B.weight"] = torch.zeros(shape[0], 1, dtype=dtype)
    contents.ranks[pair.module] = 1
    contents.transposed |= weight.transposed


def _read_back(
    models: Models, choice: Choice, found: Sequence[Factors], ready: Path, dtype: torch.dtype
) -> tuple[list[Row], dict[str, float]]:
    """Residuals of what was read, each no larger than it should be.

    Raises:
        CheckpointError: one is.
    """
    whole = [*choice.values, *choice.biases]
    read = residuals(models, ready, {pair.name for pair in (*choice.factors, *whole)})
    # casting either factor moves it by at most half an eps
    eps = torch.finfo(dtype).eps
    rows: list[Row] = []
    for pair, factors in zip(choice.factors, found, strict=True):
        allowed = factors.residual + 4 * eps * factors.norm + 1e-5 * factors.norm
        if read[pair.name] > allowed:
            raise CheckpointError(
                f"{pair.name} must be read back with error {allowed:.3g}, has {read[pair.name]:.3g}: the file is not "
                f"what was put into it; check the disk and run again"
            )
        rows.append(Row(pair.name, pair.kind, pair.shape, factors.rank, factors.norm, read[pair.name], factors.floor))
    faulty = [pair.name for pair in whole if read[pair.name] > 0]
    if faulty:
        raise CheckpointError(f"{faulty[0]} must be read back as it is, but differs; check the disk and run again")
    return rows, {pair.name: 0.0 for pair in whole}
