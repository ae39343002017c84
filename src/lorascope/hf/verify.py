"""Whether an adapter is what its card says, and how near it brings the base to the tuned model."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from .adapter_files import open_adapter
from .configuration import differing
from .functional import Functional, compare
from .loading import written_for
from .measure import measured
from .pairs import open_models
from .texts import texts_for
from .unread import CANNOT, unread
from .work import MARK

__all__ = ["Verified", "VerifiedRow", "verify"]

ALLOWED = 1e-4
"""Relative difference between what the card records and what is read back."""


@dataclass(frozen=True)
class VerifiedRow:
    """One parameter that the adapter changes, or that changed and is not carried.

    Attributes:
        name: the parameter's.
        norm: Frobenius norm of the tuned model's difference.
        residual: of what the adapter leaves of it.
        recorded: residual the card records; None where it records none.
        size: Frobenius norm of the change that the file holds, or of the value.
        recorded_size: the same as recorded; None in older records.
    """

    name: str
    norm: float
    residual: float
    recorded: float | None
    size: float
    recorded_size: float | None

    @property
    def fault(self) -> str:
        """What is not as recorded, up to 1e-4 of the difference's norm or of the size; else empty."""
        if self.recorded is not None and not abs(self.residual - self.recorded) <= ALLOWED * self.norm:
            return f"{self.name} is off by {self.residual:.6g}, its card records {self.recorded:.6g}"
        told = self.recorded_size
        if told is not None and not abs(self.size - told) <= ALLOWED * told:
            return f"{self.name} has the norm {self.size:.6g} in the file, its card records {told:.6g}"
        return ""


@dataclass(frozen=True)
class Verified:
    """What was found.

    Attributes:
        rows: every parameter that differs between base and tuned model.
        card: whether the folder has a record to compare with.
        error: relative Frobenius error of all of them together.
        functional: outputs compared, or why they were not.
        max_kl: the largest KL allowed; None for any.
        configurations: in what base and tuned model compute differently whatever their weights; empty for nothing.
        unread: what of the file PEFT does not read, by its configuration, in words.
        missing: files of an adapter of lorascope's that the folder does not have; that alone is no fault.
    """

    rows: list[VerifiedRow]
    card: bool
    error: float
    functional: Functional
    max_kl: float | None
    configurations: str
    unread: list[str]
    missing: list[str]

    @property
    def faults(self) -> list[str]:
        """What falls short, in words; a large error at a low rank does not."""
        found = self.unread + [row.fault for row in self.rows if row.fault]
        kl = self.functional.kl
        if self.max_kl is not None and kl is None:
            found.append(f"KL could not be measured: {self.functional.inputs}")
        elif self.max_kl is not None and kl is not None and not kl <= self.max_kl:
            found.append(f"KL to the tuned model is {kl:.4g}, allowed {self.max_kl:g}")
        return found


def verify(
    base: str,
    tuned: str,
    adapter: str,
    texts: Path | None = None,
    max_kl: float | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Verified:
    """Read an adapter back and compare it with its card, its configuration, the tuned model's weights and outputs.

    Args:
        base, tuned: folders or hub names.
        adapter: the adapter's folder.
        texts: one text a line; None: random inputs.
        max_kl: mean KL(tuned || adapted) in nats that is allowed.
        progress: called with the share done and a few words.

    Returns:
        Rows and faults.

    Raises:
        CheckpointError: files that cannot be read or do not fit.
        SpecError: texts that cannot be read.

    Cost O(entries) and a forward pass of both models.
    """
    models = open_models(base, tuned)
    files = open_adapter(adapter)
    folder = files.folder
    recorded, sizes = _recorded(folder)
    batches = None if texts is None else texts_for(models, texts)
    rows: list[VerifiedRow] = []
    total = sum(pair.entries for pair in models.pairs)
    read = measured(models, folder, {pair.name for pair in models.pairs})
    done = 0
    for pair in models.pairs:
        if progress is not None:
            progress(0.5 * done / total, pair.name)
        done += pair.entries
        norm = float(torch.linalg.vector_norm(pair.difference(), dtype=torch.float64))
        name, got = pair.name, read[pair.name]
        if norm > 0 or got.residual > 0:
            rows.append(VerifiedRow(name, norm, got.residual, recorded.get(name), got.size, sizes.get(name)))
    if progress is not None:
        progress(0.6, "outputs")
    described = "random inputs" if texts is None else f"{texts.name}"
    profile = written_for(folder)
    ignored = unread(models, files, profile)
    if any(fault.startswith(CANNOT) for fault in ignored):
        functional = Functional("not run: PEFT cannot load the adapter")
    else:
        functional = compare(models, folder, batches, described, profile)
    norm = math.hypot(*(row.norm for row in rows))
    error = math.hypot(*(row.residual for row in rows)) / norm if norm else 0.0
    missing = [name for name in (MARK, "README.md") if not (folder / name).is_file()]
    differences = differing(models.base, models.tuned)
    return Verified(rows, bool(recorded), error, functional, max_kl, differences, ignored, missing)


def _recorded(folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Residuals and sizes by parameter, as extraction recorded them; older records have no sizes.

    Raises:
        CheckpointError: a record that is damaged.
    """
    if not (folder / MARK).is_file():
        return {}, {}
    try:
        told: dict[str, Any] = json.loads((folder / MARK).read_text())
        found = {row["name"]: float(row["residual"]) for row in told["matrices"]}
        found |= {name: float(value) for name, value in told["whole"].items()}
        return found, {name: float(value) for name, value in told.get("sizes", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{folder / MARK} is damaged; extract the adapter again") from None
