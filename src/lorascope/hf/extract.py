"""A fine-tune as a LoRA adapter: extracted, written, read back and compared."""

import hashlib
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from .._version import __version__
from ..errors import LorascopeError, SpecError
from .adapter_files import ADAPTER_WEIGHTS, AdapterFiles
from .budget import Budget, copies, sides
from .calibration import BATCH, calibrate
from .card import Row
from .checkpoint import Checkpoint
from .choose import Choice, choose, hung
from .configuration import differing
from .factors import Factors
from .functional import Compared, Functional
from .joint import joined
from .pairs import LeftOut, Models, Pair, open_models
from .profiles import MAX_RANKS, Profile
from .slots import Slot
from .stages import truncated
from .style import Style
from .texts import texts_for
from .work import Where, Work, check_out, dtype_of, open_work, publish
from .write import write_adapter

__all__ = ["Extracted", "extract"]

Progress = Callable[[float, str], None]
_OPENED, _WRITTEN = 0.1, 0.95  # shares of the work at which it is known what changed, and the factors are there


@dataclass(frozen=True)
class Extracted:
    """What was extracted.

    Attributes:
        rows: matrix by matrix.
        left_out: what changed and is not carried, with the reason.
        rank: the largest.
        parameters: entries of all A and B; of a matrix with several names, as often as the file holds them.
        whole: entries of what is carried whole, counted likewise.
        error: relative Frobenius error of all matrices together.
        weighted_error: the same under the calibration's weights, before gains and distillation; None without.
        bytes: of the weights' file; of a dry run, what it would be without the names.
        max_lora_rank: what vLLM has to be told; None above what it can.
        functional: outputs compared, or why they were not; None after a dry run.
        told: how the factors were found, and what of the configurations differs, in words.
    """

    rows: list[Row]
    left_out: list[LeftOut]
    rank: int
    parameters: int
    whole: int
    error: float
    weighted_error: float | None
    bytes: int
    max_lora_rank: int | None
    functional: Functional | None
    told: tuple[str, ...]


def extract(
    base: str,
    tuned: str,
    out: Path,
    *,
    rank: int | None = None,
    parameters: int | None = None,
    max_error: float | None = None,
    calibration: Path | None = None,
    refine_steps: int = 0,
    modules: str | None = None,
    exclude: str | None = None,
    profile: Profile = "peft",
    dtype: str | None = None,
    base_name: str | None = None,
    device: str = "cpu",
    executor: Executor | None = None,
    dry_run: bool = False,
    outputs: bool = True,
    progress: Progress | None = None,
) -> Extracted:
    """Turn a fine-tune into an adapter of its base, matrix by matrix, and prove the file by reading it back.

    ``B A = LR_r(W' - W)``, at one rank for all matrices, less where fewer singular values lie above the rounding of the
    stored weights. With texts, ``B A = P^-T LR_r(P^T (W' - W) L) L^-1`` where ``P P^T = E[g g^T]`` and
    ``L L^T = E[x x^T]`` of each matrix on them, at the ranks that do most for their entries, and biases take up the
    mean of what is left. Interrupted, it goes on where it stopped; the folder appears when it is whole.

    Args:
        base, tuned: folders or hub names; ``tuned`` may be an adapter's folder.
        out: the adapter's folder: new, empty, or an earlier adapter of lorascope's.
        rank: of every matrix, with calibration on average over their entries; or
        parameters: entries of all A and B at most; or
        max_error: relative Frobenius error of all differences together, with calibration weighted. None of them: at
            most 64.
        calibration: a file of texts, one a line, like those the model is for.
        refine_steps: of training the factors on them against the tuned model.
        modules, exclude: regular expressions on module names.
        profile: who will load it.
        dtype: of what is written; default the tuned model's.
        base_name: what the adapter says its base is; default the name or the folder's last part.
        device: where the products run.
        executor: whose processes take the matrices, one by one; they must see the same folders. None: this one does.
        dry_run: write nothing.
        outputs: compare the outputs too, where the model fits into half of the free memory.
        progress: called with the share done and a few words.

    Returns:
        Ranks, errors and sizes.

    Raises:
        CheckpointError: models that cannot be read or do not fit; texts without a tokenizer.
        SpecError: options that do not fit, or nothing to carry.

    Source: Eckart & Young 1936; the weights are K-FAC's (Martens & Grosse 2015). Cost O(out inp r) a matrix; memory of
    the largest pair and of the adapter; with texts that of the tuned model, with refinement of both.
    """
    told = progress or _silent
    budget = Budget(rank, parameters, max_error)
    if refine_steps and calibration is None:
        raise SpecError(f"--refine {refine_steps} trains on texts; name them by --calibration")
    models = open_models(base, tuned)
    inputs = models.base.folder, models.tuned.folder
    check_out(out, inputs)
    batches = None if calibration is None else texts_for(models, calibration, BATCH)
    told(0.0, "what changed")
    choice = choose(models, profile, modules, exclude, all_biases=calibration is not None)
    budget = replace(budget, hung=_entries_of(hung(choice)))
    kind = dtype_of(dtype, _commonest([*choice.factors, *choice.values, *choice.biases]))
    budget.uniform(choice.factors)  # raises where not even rank 1 fits
    asked = _asked(models, choice, budget, profile, batches, refine_steps)
    with _work(out, asked, inputs, dry_run) as work:
        where = Where(work, device, executor)
        found, notes, compared = _found(models, choice, budget, profile, where, batches, refine_steps, told)
        differences = differing(models.base, models.tuned)
        notes = (*notes, differences) if differences else notes
        how = Style(profile, kind, base_name or _base_name(models), _largest(choice, found, profile), notes)
        if dry_run:
            return _summary(choice, found, how)
        told(0.95, "writing and reading back")
        written = write_adapter(work, models, choice, found, how, compared if outputs else None)
        publish(work, written.folder, out)
        return _summary(choice, found, written.how, written.rows, written.functional, out)


def _silent(_share: float, _what: str) -> None:
    """Nobody listens."""


@contextmanager
def _work(out: Path, asked: Mapping[str, Any], inputs: Sequence[Path], dry_run: bool) -> Generator[Work]:
    """The folder of the work, for this run alone.

    It goes away with a dry run, and where a mistake shows before anything is saved; else a mistake says that it stays.
    """
    if dry_run:
        with TemporaryDirectory() as name:
            yield Work(Path(name))
        return
    work = open_work(out, asked, inputs=inputs)
    try:
        yield work
    except LorascopeError as error:
        if work.begun:
            error.args = (f"{error}; what is done is kept in {work.folder}, where the same command goes on",)
        else:
            work.discard()
        raise
    finally:
        work.close()


def _asked(
    models: Models, choice: Choice, budget: Budget, profile: Profile,
    batches: list[dict[str, Tensor]] | None, steps: int,
) -> Mapping[str, Any]:  # fmt: skip
    """Everything that decides what is kept of the work."""
    return {
        "lorascope": __version__,
        "base": _state(models.base),
        "tuned": _state(models.tuned),
        "budget": asdict(budget),
        "profile": profile,
        "tokens": None if batches is None else _digest(batches),
        "refine": steps,
        "factors": [pair.name for pair in choice.factors],
        "values": [pair.name for pair in choice.values],
        "biases": [pair.name for pair in choice.biases],
    }


def _found(
    models: Models, choice: Choice, budget: Budget, profile: Profile, where: Where,
    batches: list[dict[str, Tensor]] | None, steps: int, told: Progress,
) -> tuple[list[Factors], tuple[str, ...], Compared]:  # fmt: skip
    """The factors, how they were found in words, and on what their outputs are to be compared."""
    if batches is None:
        found = truncated(models, choice, budget, profile, where, None, _part(told, _OPENED, _WRITTEN))
        return found, (), Compared()
    begun, ended = (0.25, 0.4) if steps else (0.4, 0.7)
    weights = calibrate(models, choice, batches, where.work.folder, where.device, _part(told, _OPENED, begun))
    found = truncated(models, choice, budget, profile, where, weights, _part(told, begun, ended))
    texts = sum(len(batch["input_ids"]) for batch in batches)
    notes = [f"Weighted by {texts} calibration texts, ranks where they do most for their entries."]
    found, note = joined(models, choice, found, where, weights, batches, steps, _part(told, ended, _WRITTEN))
    notes.append(note)
    return found, tuple(notes), Compared(batches, "the calibration texts")


def _part(told: Progress, begun: float, ended: float) -> Progress:
    return lambda share, what: told(begun + (ended - begun) * share, what)


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
    if largest == 0 and not hung(choice, found):
        raise SpecError(
            "PEFT loads no adapter without factors, and this model has no matrix beside what is carried whole; "
            "carry less, by --exclude"
        )
    if profile == "vllm" and largest > MAX_RANKS[-1]:
        raise SpecError(f"vLLM takes ranks up to {MAX_RANKS[-1]}, this needs {largest}; ask for a lower --rank")
    return max(largest, 1)


def _summary(
    choice: Choice,
    found: list[Factors],
    how: Style,
    rows: list[Row] | None = None,
    functional: Functional | None = None,
    out: Path | None = None,
) -> Extracted:
    if rows is None:
        rows = [
            Row(pair.name, pair.kind, pair.shape, factors.rank, factors.norm, factors.residual, factors.floor)
            for pair, factors in zip(choice.factors, found, strict=True)
        ]
    parameters = sum(factors.rank * sides(pair) for pair, factors in zip(choice.factors, found, strict=True))
    parameters += _entries_of(hung(choice, found))
    held = [(pair.entries * copies(pair), pair.tuned_dtype.itemsize) for pair in choice.values]
    held += [(pair.entries, pair.tuned_dtype.itemsize) for pair in choice.biases]
    whole = sum(entries for entries, _ in held)
    norm = sum(row.norm**2 for row in rows)
    error = (sum(row.residual**2 for row in rows) / norm) ** 0.5 if norm else 0.0
    weighed = [factors for factors in found if factors.weighted and factors.total > 0]
    weighted = None
    if weighed:
        weighted = math.hypot(*(f.left_over for f in weighed)) / math.hypot(*(f.total for f in weighed))
    size = parameters * how.dtype.itemsize + sum(entries * each for entries, each in held)
    if out is not None:
        size = (out / ADAPTER_WEIGHTS).stat().st_size
    needed = next((allowed for allowed in MAX_RANKS if allowed >= how.rank), None)
    return Extracted(
        rows, choice.left_out, how.rank, parameters, whole, error, weighted, size, needed, functional, how.told
    )


def _entries_of(zero: Mapping[str, Slot]) -> int:
    """Of factors of rank 1 of weights."""
    return sum(sum(slot.shape) for slot in zero.values())


def _commonest(pairs: list[Pair]) -> torch.dtype:
    sizes = {torch.float32: 0}
    for pair in pairs:
        if pair.tuned_dtype.is_floating_point:  # no counts
            sizes[pair.tuned_dtype] = sizes.get(pair.tuned_dtype, 0) + pair.entries
    return max(sizes, key=lambda dtype: sizes[dtype])


def _state(checkpoint: Checkpoint | AdapterFiles) -> Mapping[str, Any]:
    """What tells one set of files from another."""
    files = sorted({stored.file for stored in checkpoint.tensors.values()})
    sizes = {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in files}
    return {"files": sizes, "config": checkpoint.config}


def _base_name(models: Models) -> str:
    """Never a path that only this machine has."""
    name = models.base.name
    return name if not Path(name).expanduser().is_dir() else models.base.folder.resolve().name


def _digest(batches: list[dict[str, Tensor]]) -> str:
    """Of the tokens: they tell one file of texts from another, and one tokenizer."""
    found = hashlib.sha256()
    for batch in batches:
        for name, tokens in sorted(batch.items()):
            found.update(f"{name} {list(tokens.shape)}".encode())
            found.update(tokens.numpy().tobytes())
    return found.hexdigest()
