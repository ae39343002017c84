"""Settings in, adaptations out: the common course of all gradient methods."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

import torch
from torch import Tensor

from ..adaptation import Adaptation, Domain, Sampler
from ..linalg import threads_for
from ..models import FNN, Adapter, merge
from ..optim import LayeredGradient, fitting
from ..theory import Model
from .batches import Batches
from .certificate import Judge
from .compiled import CompiledChunk, Engine, EngineName, Rows, engine_for, load
from .engine import Chunk, Objective, Observer, Progress, TorchChunk, train
from .layout import Layout
from .settings import Setting
from .transformer import TransformerGradient, fitting_transformers

__all__ = ["How", "run"]


@dataclass(frozen=True)
class How:
    """What is common to all runs of a call; each as in :func:`.lora`."""

    steps: int
    batch: int
    domain: Domain | None
    samples: Tensor | None
    sampler: Sampler | None
    validate_every: int
    progress: Progress | None
    observe: Observer | None
    engine: EngineName


def run(
    frozen: Model,
    target: Model,
    settings: Sequence[Setting],
    name: str,
    how: How,
    generator: torch.Generator,
    best_only: bool = False,
) -> list[Adaptation[Model]]:
    """Train every setting on the same batches.

    Args:
        frozen, target: checked.
        settings: checked; those that train nothing come back as they start.
        name: of the method.
        how: checked, but for the inputs.
        generator: of the batches.
        best_only: one adaptation, that of the lowest validation loss.

    Returns:
        One adaptation a setting, in order.
    """
    with threads_for(next(frozen.parameters()).shape[-1]):
        return _run(frozen, target, settings, name, how, generator, best_only)


def _run(
    frozen: Model,
    target: Model,
    settings: Sequence[Setting],
    name: str,
    how: How,
    generator: torch.Generator,
    best_only: bool,
) -> list[Adaptation[Model]]:
    started = perf_counter()
    engine = engine_for(frozen, how.engine)
    judge = Judge(frozen, target, how.domain)
    lowest = _lowest(frozen, settings)
    batches = Batches(frozen, target, how.batch, how.samples, how.sampler, generator, _prefix(frozen, lowest))
    chunks = _chunks(frozen, settings, lowest, batches, engine)
    still = _loss_of(frozen, batches, lowest)
    losses = torch.full((len(settings),), still, dtype=torch.float64)
    train([chunk for chunk, _ in chunks], batches, how.steps, how.validate_every, losses, how.progress, how.observe)
    places: dict[int, tuple[Chunk, Layout, int]] = {}
    for chunk, layout in chunks:
        losses[chunk.members] = chunk.best.to(losses)
        places |= {member: (chunk, layout, place) for place, member in enumerate(chunk.members)}
    wanted = [int(losses.argmin())] if best_only else range(len(settings))
    results: list[Adaptation[Model]] = []
    for member in wanted:
        adapters: dict[str, Adapter] = {}
        biases: dict[str, Tensor] = {}
        if member in places:
            chunk, layout, place = places[member]
            adapters, biases = layout.read(frozen, chunk.kept, place, settings[member])
        model = merge(frozen, adapters, biases)
        certificate = judge(model, float(losses[member]))
        seconds = perf_counter() - started
        results.append(Adaptation(model, adapters, biases, certificate, _method(name, settings[member]), seconds))
    return results


def _method(name: str, setting: Setting) -> str:
    decay = f", weight decay {setting.weight_decay:g}" if setting.weight_decay else ""
    return f"adam {name}, lr {setting.lr:g}{decay}"


def _lowest(frozen: Model, settings: Sequence[Setting]) -> int:
    """The first layer of an FNN that any run trains: what comes before is the same for all, and is not repeated."""
    if not isinstance(frozen, FNN):
        return 0
    trained = {name for setting in settings for name in Layout.of([setting]).names}
    layers = [int(name.split(".")[1]) for name in trained]
    return min(layers, default=frozen.depth - 1)


def _prefix(frozen: Model, lowest: int) -> Callable[[Tensor], Tensor] | None:
    if lowest == 0 or not isinstance(frozen, FNN):
        return None
    layers = frozen.linears[:lowest]
    biases = [layer.bias.detach() for layer in layers] if frozen.has_bias else None
    return FNN.from_weights([layer.weight.detach() for layer in layers], biases, frozen.activation)


def _loss_of(frozen: Model, batches: Batches, lowest: int) -> float:
    """The frozen model's own loss on the held-out batch."""
    inputs, targets = batches.validation
    model: Model = frozen
    if isinstance(frozen, FNN):
        layers = frozen.linears[lowest:]
        biases = [layer.bias.detach() for layer in layers] if frozen.has_bias else None
        model = FNN.from_weights([layer.weight.detach() for layer in layers], biases, frozen.activation)
    with torch.no_grad():
        return float((model(inputs) - targets).square().mean())


def _chunks(
    frozen: Model, settings: Sequence[Setting], lowest: int, batches: Batches, engine: Engine
) -> list[tuple[Chunk, Layout]]:
    """All members that train anything."""
    if engine.name == "torch":
        groups = _groups(frozen, settings, batches)
        return [_chunk(frozen, [settings[member] for member in members], members, lowest) for members in groups]
    library, rows = load().library, Rows()
    assert isinstance(frozen, FNN) and library is not None
    chunks: list[tuple[Chunk, Layout]] = []
    for members in _alike(settings):
        chosen = [settings[member] for member in members]
        layout = Layout.of(chosen)
        chunks.append((CompiledChunk(library, frozen, layout, chosen, members, lowest, rows), layout))
    return chunks


def _groups(frozen: Model, settings: Sequence[Setting], batches: Batches) -> list[list[int]]:
    """Members that are worked on together: of one layout, and of ranks as equal as can be, for less padding."""
    rows = batches.batch
    if isinstance(frozen, FNN):
        most = fitting([layer.weight.shape[0] for layer in frozen.linears], rows, frozen.linears[0].weight)
    else:
        most = fitting_transformers(frozen, rows, batches.validation[0].shape[-2])
    groups: list[list[int]] = []
    for members in _alike(settings):
        count = math.ceil(len(members) / most)
        bounds = [len(members) * index // count for index in range(count + 1)]
        groups += [members[start:stop] for start, stop in pairwise(bounds)]
    return groups


def _alike(settings: Sequence[Setting]) -> list[list[int]]:
    """The members of each layout, lowest ranks first."""
    order = sorted(range(len(settings)), key=lambda member: sum(settings[member].ranks.values()))
    alike: dict[tuple[object, ...], list[int]] = {}
    for member in order:
        if Layout.of([settings[member]]).names:
            alike.setdefault(Layout.key(settings[member]), []).append(member)
    return list(alike.values())


def _chunk(frozen: Model, settings: Sequence[Setting], members: list[int], lowest: int) -> tuple[Chunk, Layout]:
    layout = Layout.of(settings)
    objective: Objective
    if isinstance(frozen, FNN):
        objective = _layered(frozen, layout, lowest)
    else:
        objective = TransformerGradient(frozen, layout)
    rates, decays = [setting.lr for setting in settings], [setting.weight_decay for setting in settings]
    return TorchChunk.of(members, objective, layout.start(frozen, settings), rates, decays), layout


def _layered(frozen: FNN, layout: Layout, lowest: int) -> LayeredGradient:
    layers = frozen.linears[lowest:]
    names = [f"layers.{index}" for index in range(lowest, frozen.depth)]
    zeros = [layer.weight.new_zeros(layer.weight.shape[0]) for layer in layers]
    fixed = [layer.bias.detach() if frozen.has_bias else zero for layer, zero in zip(layers, zeros, strict=True)]

    return LayeredGradient(
        [layer.weight.detach() for layer in layers],
        activation=frozen.activation,
        adapted=[index for index, name in enumerate(names) if f"{name}.weight" in layout.ranks],
        full=[index for index, name in enumerate(names) if f"{name}.weight" in layout.full],
        biases=[None if f"{name}.bias" in layout.biases else value for name, value in zip(names, fixed, strict=True)],
    )
