"""Weights of every matrix, measured on texts that the tuned model reads."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import CheckpointError, SpecError
from .choose import Choice
from .functional import load_full
from .memory import lacking
from .moments import Moments, measure_moments, moment_bytes
from .pairs import Models, Pair
from .quiet import quiet
from .saving import save_tensors
from .weights import Weights, weights_of

__all__ = ["BATCH", "Calibration", "calibrate"]

BATCH = 32
"""Texts at a time."""
SHARE = 0.25
"""Of the free memory, for second moments; what does not fit is measured in another round through the texts."""


@dataclass(frozen=True)
class Calibration:
    """Moments on disk, one file a module, read when asked for.

    Attributes:
        folder: where they are.
        centred: modules whose bias takes up the mean of what the factors leave.
    """

    folder: Path
    centred: frozenset[str]

    def has(self, pair: Pair) -> bool:
        """The matrix has weights: the texts passed through it, and it is not a stack of experts, nor tied."""
        return _path(self.folder, pair).is_file()

    def moments(self, pair: Pair) -> Moments | None:
        """Of one matrix; None where it has no weights."""
        if not self.has(pair):
            return None
        with safe_open(_path(self.folder, pair), framework="pt") as file:
            rows = float.fromhex(file.metadata()["rows"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Moments(tensors["left"], tensors["right"], tensors.get("mean"), rows)

    def weights(self, pair: Pair) -> Weights | None:
        """Roots of the moments, centred where a bias takes up the mean."""
        moments = self.moments(pair)
        if moments is None:
            return None
        return weights_of(moments, centred=pair.module in self.centred, embedding=pair.kind == "embedding")

    def mean(self, pair: Pair) -> Tensor | None:
        """``E[x]`` of a matrix whose bias takes up the mean; None of the others."""
        if pair.module not in self.centred or not self.has(pair):
            return None
        # this tensor alone: the moments beside it are the squares of its size
        with safe_open(_path(self.folder, pair), framework="pt") as file:
            return file.get_tensor("mean") if "mean" in file.keys() else None  # noqa: SIM118


def calibrate(
    models: Models,
    choice: Choice,
    batches: Sequence[dict[str, Tensor]],
    folder: Path,
    device: str = "cpu",
    progress: Callable[[float, str], None] | None = None,
) -> Calibration:
    """Measure the moments of matrices in the tuned model; those that an earlier run left in the folder are kept.

    Args:
        models: base and tuned.
        choice: the matrices, and the biases that may take up the mean of what their factors leave.
        batches: tokens.
        folder: where the moments go, a file a module.
        device: where the model runs.
        progress: called with the share done and a few words.

    Raises:
        CheckpointError: a model that does not take texts.
        SpecError: the model does not fit into the memory, or its moments onto the disk.

    Cost: the tuned model in float32 and its activations on a batch of 32 texts; a forward and a backward pass a round.
    """
    if models.model.main_input_name != "input_ids":
        raise CheckpointError(
            f"--calibration reads texts, but a {type(models.model).__name__} takes {models.model.main_input_name}; "
            f"leave it out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    missing = [pair for pair in choice.factors if _has_weights(pair) and not _path(folder, pair).is_file()]
    room = lacking(models, 1, device) if missing else ""
    if room:
        raise SpecError(f"--calibration needs {room}; leave it out, or name a --device that has the room")
    if missing:
        rounds = list(_rounds(missing))
        with quiet():
            model = load_full(models).to(torch.device(device))  # pyright: ignore[reportArgumentType]
        moved = [{name: value.to(device) for name, value in batch.items()} for batch in batches]
        for number, some in enumerate(rounds):
            # drawn anew for every round: the same texts, the same draws
            generator = torch.Generator().manual_seed(0)

            def told(share: float, done: int = number) -> None:
                if progress is not None:
                    progress((done + share) / len(rounds), "calibration texts")

            found = measure_moments(model, [pair.module for pair in some], moved, generator, told)
            for pair in some:
                if pair.module in found:
                    _save(_path(folder, pair), found[pair.module])
    return Calibration(folder, frozenset(pair.module for pair in choice.biases))


def _has_weights(pair: Pair) -> bool:
    return pair.kind in {"linear", "conv1d", "head", "embedding"} and not pair.slot.tied and not pair.grown


def _rounds(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    from psutil import virtual_memory  # noqa: PLC0415

    room = SHARE * virtual_memory().available
    some: list[Pair] = []
    used = 0.0
    for pair in pairs:
        size = moment_bytes(pair.shape)
        if some and used + size > room:
            yield some
            some, used = [], 0.0
        some.append(pair)
        used += size
    yield some


def _path(folder: Path, pair: Pair) -> Path:
    return folder / f"moments-{pair.module}.safetensors"


def _save(path: Path, moments: Moments) -> None:
    tensors = {"left": moments.left.cpu(), "right": moments.right.cpu()}
    if moments.mean is not None:
        tensors["mean"] = moments.mean.cpu()
    save_tensors(path, tensors, {"rows": moments.rows.hex()})
