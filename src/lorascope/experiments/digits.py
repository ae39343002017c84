"""A network that reads handwritten digits, imitated by frozen random networks through low-rank adapters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor

from ..adaptation import Box
from ..construct import refined
from ..models import FNN
from ..shapes import Float
from ..theory import rank_needed
from .digits_data import Digits, load

__all__ = ["DigitsResult", "DigitsRow", "DigitsSettings", "Progress", "run_digits", "train_target"]

WIDTH = 64  # pixels of an image
CLASSES = 10


@runtime_checkable
class Progress(Protocol):
    """Called after each piece of work with the stage (``"train"``, ``"adapt"``), how much of it is done, and what."""

    def __call__(self, stage: str, done: int, total: int, what: str) -> None: ...


@dataclass(frozen=True)
class DigitsSettings:
    """What to run.

    Attributes:
        ranks: depth of a frozen network -> ranks below the threshold to try; the threshold and one above it are added.
        epochs, batch, learning_rate: of the target's training.
        test_images: held out.
        seed: of the split, the training and the frozen networks.
        seconds: given to each exact adaptation.
        refine_seconds: given to each one below the threshold.
    """

    ranks: Mapping[int, tuple[int, ...]] = field(
        default_factory=lambda: {4: (1, 2, 4, 8, 12, 16, 20, 24, 28), 8: (2, 4, 6, 14)}
    )
    epochs: int = 50
    batch: int = 64
    learning_rate: float = 3e-3
    test_images: int = 450
    seed: int = 0
    seconds: float = 20.0
    refine_seconds: float = 3.0


class DigitsRow(TypedDict):
    """One frozen network adapted at one rank; errors are Euclidean norms of the 64 outputs' difference, not squared.

    Measured on the test images: ``accuracy`` (also of the frozen network and of the target), ``agreement`` (same class
    as the target's), ``mean_error``, ``max_error``, ``relative_error`` (Frobenius norms over all images),
    ``max_output_difference`` (largest modulus of one output's difference). Certified: ``error_bound`` for every image
    in [0, 1]^64, ``expected_error_bound`` for the mean over the training images, beside ``train_mean_error``.
    """

    depth: int
    rank: int
    rank_needed: int
    paper_rank: int
    frozen_accuracy: float
    target_accuracy: float
    accuracy: float
    agreement: float
    mean_error: float
    max_error: float
    relative_error: float
    max_output_difference: float
    error_bound: float
    train_mean_error: float
    expected_error_bound: float | None
    exact: bool
    residual: float
    largest_adapter_norm: float
    method: str
    conditions: list[str]
    seconds: float


@dataclass(frozen=True)
class DigitsResult:
    """What came out: one row a depth and rank, and where it was measured."""

    rows: list[DigitsRow]
    train_images: int
    test_images: int
    train_seconds: float


def train_target(
    data: Digits, settings: DigitsSettings, generator: torch.Generator, progress: Progress | None = None
) -> FNN:
    """A two-layer FNN whose largest of the first ten outputs names the digit: Adam on the cross-entropy.

    A ReLU follows the last layer too, so these ten outputs start with a bias of 1 more: none is dead from the outset.
    """
    target = FNN(WIDTH, 2, generator=generator)
    with torch.no_grad():
        target.linears[-1].bias[:CLASSES] += 1
    optimiser = torch.optim.Adam(target.parameters(), lr=settings.learning_rate)
    for epoch in range(settings.epochs):
        order = torch.randperm(len(data.train), generator=generator)
        for batch in order.split(settings.batch):
            scores = target(data.train[batch])[:, :CLASSES]
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(scores, data.train_labels[batch]).backward()
            optimiser.step()
        if progress is not None:
            progress("train", epoch + 1, settings.epochs, f"epoch {epoch + 1}")
    return target.requires_grad_(False)


def run_digits(settings: DigitsSettings | None = None, progress: Progress | None = None) -> DigitsResult:
    """Train the target, then adapt each frozen network below, at and above the rank it needs.

    Args:
        settings: what to run.
        progress: told of each epoch and each adaptation done.

    Returns:
        Rows sorted by depth, then rank.
    """
    settings = settings or DigitsSettings()
    generator = torch.Generator().manual_seed(settings.seed)
    data = load(settings.test_images, generator)
    started = perf_counter()
    target = train_target(data, settings, generator, progress)
    train_seconds = perf_counter() - started
    jobs: list[tuple[FNN, int, int, int]] = []
    for depth, below in sorted(settings.ranks.items()):
        frozen = FNN(WIDTH, depth, generator=torch.Generator().manual_seed(settings.seed + depth)).requires_grad_(False)
        need = rank_needed(frozen, target)
        ranks = sorted({*(rank for rank in below if rank < need.uniform), need.uniform, need.uniform + 1})
        assert need.paper_uniform is not None  # it is for fully connected networks
        jobs += [(frozen, rank, need.uniform, need.paper_uniform) for rank in ranks]
    rows: list[DigitsRow] = []
    for done, (frozen, rank, needed, paper) in enumerate(jobs):
        if progress is not None:
            progress("adapt", done, len(jobs), f"depth {frozen.depth}, rank {rank}")
        seconds = settings.seconds if rank >= needed else settings.refine_seconds
        rows.append(_row(frozen, target, rank, needed, paper, data, seconds))
    if progress is not None:
        progress("adapt", len(jobs), len(jobs), "done")
    return DigitsResult(rows, len(data.train), len(data.test), train_seconds)


def _row(frozen: FNN, target: FNN, rank: int, needed: int, paper: int, data: Digits, seconds: float) -> DigitsRow:
    domain = Box(torch.zeros(WIDTH), torch.ones(WIDTH))
    found = refined(frozen, target, rank, domain=domain, samples=data.train, seconds=seconds, profile="fast")
    output, wanted = found.model(data.test), target(data.test)
    errors = (output - wanted).norm(dim=1)
    certificate = found.certificate
    return DigitsRow(
        depth=frozen.depth,
        rank=rank,
        rank_needed=needed,
        paper_rank=paper,
        frozen_accuracy=_share(_classes(frozen(data.test)) == data.test_labels),
        target_accuracy=_share(_classes(wanted) == data.test_labels),
        accuracy=_share(_classes(output) == data.test_labels),
        agreement=_share(_classes(output) == _classes(wanted)),
        mean_error=float(errors.mean()),
        max_error=float(errors.max()),
        relative_error=float((output - wanted).norm() / wanted.norm()),
        max_output_difference=float((output - wanted).abs().max()),
        error_bound=certificate.error_bound,
        train_mean_error=float((found.model(data.train) - target(data.train)).norm(dim=1).mean()),
        expected_error_bound=certificate.expected_error_bound,
        exact=certificate.exact,
        residual=certificate.residual,
        largest_adapter_norm=max(float(torch.linalg.matrix_norm(a.delta, 2)) for a in found.adapters.values()),
        method=found.method,
        conditions=list(certificate.conditions),
        seconds=found.seconds,
    )


def _classes(outputs: Float[Tensor, "images 64"]) -> Tensor:
    return outputs[:, :CLASSES].argmax(dim=1)


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())
