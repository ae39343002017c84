"""A fine-tune as a LoRA adapter: extracted, written, read back and compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import SpecError
from .adapter_files import AdapterFiles
from .card import Row
from .checkpoint import Checkpoint
from .choose import Choice, choose, rank_for_error, rank_for_parameters, sides
from .factors import Factors, factorise
from .functional import Functional
from .pairs import LeftOut, Models, Pair, open_models
from .profiles import MAX_RANKS, Profile
from .ranks import matrix_rows
from .work import Work, dtype_of, open_work, publish
from .write import write_adapter

__all__ = ["DEFAULT_RANK", "Extracted", "extract"]

Progress = Callable[[float, str], None]
DEFAULT_RANK = 64
_OPENED = 0.1  # share of the work that finds out what changed


@dataclass(frozen=True)
class Extracted:
    """What was extracted.

    Attributes:
        rows: matrix by matrix.
        left_out: what changed and is not carried, with the reason.
        rank: the largest.
        parameters: entries of all A and B.
        whole: entries of what is carried whole.
        error: relative Frobenius error of all matrices together.
        bytes: of the weights' file; of a dry run, what it would be.
        max_lora_rank: what vLLM has to be told; None above what it can.
        functional: outputs compared, or why they were not; None after a dry run.
    """

    rows: list[Row]
    left_out: list[LeftOut]
    rank: int
    parameters: int
    whole: int
    error: float
    bytes: int
    max_lora_rank: int | None
    functional: Functional | None


def extract(
    base: str,
    tuned: str,
    out: Path,
    *,
    rank: int | None = None,
    parameters: int | None = None,
    max_error: float | None = None,
    modules: str | None = None,
    exclude: str | None = None,
    profile: Profile = "peft",
    dtype: str | None = None,
    base_name: str | None = None,
    device: str = "cpu",
    dry_run: bool = False,
    outputs: bool = True,
    progress: Progress | None = None,
) -> Extracted:
    """Turn a fine-tune into an adapter of its base, matrix by matrix, and prove the file by reading it back.

    ``B A = LR_r(W' - W)``, at one rank for all matrices, less where fewer singular values lie above the rounding of the
    stored weights. Interrupted, it goes on where it stopped; the folder appears when it is whole.

    Args:
        base, tuned: folders or hub names; ``tuned`` may be an adapter's folder.
        out: the adapter's folder: new, empty, or an earlier adapter of lorascope's.
        rank: of every matrix; or
        parameters: entries of all A and B at most; or
        max_error: relative Frobenius error of all differences together. None of them: at most 64.
        modules, exclude: regular expressions on module names.
        profile: who will load it.
        dtype: of what is written; default the tuned model's.
        base_name: what the adapter says its base is; default the name or the folder's last part.
        device: where the products run.
        dry_run: write nothing.
        outputs: compare the outputs too, where the model fits into half of the free memory.
        progress: called with the share done and a few words.

    Returns:
        Ranks, errors and sizes.

    Raises:
        CheckpointError: models that cannot be read or do not fit.
        SpecError: options that do not fit, or nothing to carry.

    Cost O(out inp r) a matrix; memory of the largest pair and of the adapter.
    """
    told = progress or _silent
    _check(rank, parameters, max_error)
    models = open_models(base, tuned)
    told(0.0, "what changed")
    choice = choose(models, profile, modules, exclude)
    most = _rank(choice, rank, parameters, max_error)
    kind = dtype_of(dtype, _commonest([*choice.factors, *choice.values, *choice.biases]))
    asked = {
        "base": _state(models.base),
        "tuned": _state(models.tuned),
        "rank": most,
        "matrices": [pair.name for pair in choice.factors],
    }
    work = None if dry_run else open_work(out, asked)
    found: list[Factors] = []
    total = sum(torch.Size(pair.shape).numel() for pair in choice.factors)
    done = 0
    for index, pair in enumerate(choice.factors):
        told(_OPENED + (0.9 - _OPENED) * done / total, pair.name)
        found.append(_factors(work, index, pair, most, device))
        done += torch.Size(pair.shape).numel()
    largest = _largest(choice, found, profile)
    if work is None:
        return _summary(choice, found, largest, kind, profile)
    told(0.9, "writing and reading back")
    name = base_name or _base_name(models)
    ready, rows, functional = write_adapter(work, models, choice, found, kind, name, profile, largest, outputs)
    publish(work, ready, out)
    return _summary(choice, found, largest, kind, profile, rows, functional, out)


def _silent(_share: float, _what: str) -> None:
    """Nobody listens."""


def _check(rank: int | None, parameters: int | None, max_error: float | None) -> None:
    given = [
        name
        for name, value in (("--rank", rank), ("--params", parameters), ("--max-error", max_error))
        if value is not None
    ]
    if len(given) > 1:
        raise SpecError(f"only one of --rank, --params and --max-error can be asked for, got {' and '.join(given)}")
    if rank is not None and rank < 1:
        raise SpecError(f"--rank must be at least 1, got {rank}")
    if max_error is not None and not 0 < max_error < 1:
        raise SpecError(f"--max-error must lie between 0 and 1, got {max_error}")


def _rank(choice: Choice, rank: int | None, parameters: int | None, max_error: float | None) -> int:
    if parameters is not None:
        return rank_for_parameters(choice.factors, parameters)
    if max_error is None:
        return rank or DEFAULT_RANK
    generator = torch.Generator().manual_seed(0)
    return rank_for_error([row.spectrum for pair in choice.factors for row in matrix_rows(pair, generator)], max_error)


def _factors(work: Work | None, index: int, pair: Pair, rank: int, device: str) -> Factors:
    kept = None if work is None else work.load(index)
    if kept is not None:
        return kept
    factors = factorise(pair, rank, device)
    if work is not None:
        work.save(index, factors)
    return factors


def _largest(choice: Choice, found: list[Factors], profile: Profile) -> int:
    """The rank that the configuration names.

    Raises:
        SpecError: none at all, or more than the profile takes.
    """
    largest = max((factors.rank for factors in found), default=0)
    if largest == 0 and not choice.values and not choice.biases:
        raise SpecError(
            "every difference is below the rounding of the stored weights: rank 0 everywhere; "
            "take the models in the precision they were trained in"
        )
    if profile == "vllm" and largest > MAX_RANKS[-1]:
        raise SpecError(f"vLLM takes ranks up to {MAX_RANKS[-1]}, this needs {largest}; ask for a lower --rank")
    return max(largest, 1)


def _summary(
    choice: Choice,
    found: list[Factors],
    largest: int,
    kind: torch.dtype,
    profile: Profile,
    rows: list[Row] | None = None,
    functional: Functional | None = None,
    out: Path | None = None,
) -> Extracted:
    if rows is None:
        rows = [
            Row(pair.name, pair.kind, pair.shape, factors.rank, factors.norm, factors.residual, factors.floor)
            for pair, factors in zip(choice.factors, found, strict=True)
        ]
    # the profiles that pad hold every matrix at the largest rank
    held = [largest if profile != "peft" or pair.kind == "expert" else factors.rank
            for pair, factors in zip(choice.factors, found, strict=True) if factors.rank]  # fmt: skip
    with_rank = [pair for pair, factors in zip(choice.factors, found, strict=True) if factors.rank]
    parameters = sum(rank * sides(pair) for pair, rank in zip(with_rank, held, strict=True))
    whole = sum(torch.Size(pair.shape).numel() for pair in (*choice.values, *choice.biases))
    norm = sum(row.norm**2 for row in rows)
    error = (sum(row.residual**2 for row in rows) / norm) ** 0.5 if norm else 0.0
    size = (parameters + whole) * kind.itemsize if out is None else (out / "adapter_model.safetensors").stat().st_size
    needed = next((allowed for allowed in MAX_RANKS if allowed >= largest), None)
    return Extracted(rows, choice.left_out, largest, parameters, whole, error, size, needed, functional)


def _commonest(pairs: list[Pair]) -> torch.dtype:
    sizes: dict[torch.dtype, int] = {}
    for pair in pairs:
        sizes[pair.tuned_dtype] = sizes.get(pair.tuned_dtype, 0) + torch.Size(pair.shape).numel()
    return max(sizes, key=lambda dtype: sizes[dtype])


def _state(checkpoint: Checkpoint | AdapterFiles) -> Mapping[str, Any]:
    """What tells one set of files from another."""
    files = sorted({stored.file for stored in checkpoint.tensors.values()})
    return {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in files}


def _base_name(models: Models) -> str:
    """Never a path that only this machine has."""
    name = models.base.name
    return name if not Path(name).expanduser().is_dir() else models.base.folder.resolve().name
