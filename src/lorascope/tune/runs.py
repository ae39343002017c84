"""Settings in, adaptations out: the common course of all gradient methods."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from time import perf_counter

import torch
from torch import Tensor

from ..adaptation import Adaptation
from ..linalg import threads_for
from ..models import FNN, Adapter, merge
from ..optim import LayeredGradient, ObjectiveName, Workspace, check_objective, fitting, output_loss
from ..theory import Model
from .batches import Batches
from .certificate import Judge
from .checkpoint import Checkpoint, fingerprint
from .compiled import CompiledChunk, CompiledOutputs, Engine, Rows, engine_for, load
from .engine import Chunk, Objective, TorchChunk, train
from .keywords import How
from .layout import Layout
from .settings import Setting
from .transformer import TransformerGradient, fitting_transformers

__all__ = ["run"]


def run(
    frozen: Model,
    target: Model,
    settings: Sequence[Setting],
    name: str,
    how: How,
    best_only: bool = False,
) -> list[Adaptation[Model]]:
    """Train every setting on the same batches.

    Args:
        frozen, target: checked.
        settings: checked; those that train nothing come back as they start.
        name: of the method.
        how: checked, but for the inputs.
        best_only: one adaptation, that of the lowest validation loss.

    Returns:
        One adaptation a setting, in order.
    """
    with threads_for(next(frozen.parameters()).shape[-1]):
        return _run(frozen, target, settings, name, how, best_only)


def _run(
    frozen: Model, target: Model, settings: Sequence[Setting], name: str, how: How, best_only: bool
) -> list[Adaptation[Model]]:
    started, source, engine = perf_counter(), how.source, engine_for(frozen, how.engine)
    kind = check_objective(how.objective, next(frozen.parameters()).shape[-1])
    judge = Judge(frozen, target, how.domain, kind)
    before = source.get_state()
    lowest = _lowest(frozen, settings)
    lift, outputs = _networks(frozen, target, lowest, engine)
    batches = Batches(frozen, target, how.batch, how.samples, how.sampler, source, lift, how.held_out, outputs)
    chunks = _chunks(frozen, settings, how, lowest, batches, engine)
    losses = torch.full((len(settings),), _loss_of(frozen, batches, lowest, kind), dtype=torch.float64)
    trained = [chunk for chunk, _ in chunks]
    checkpoint = _checkpoint(frozen, target, settings, how, before, trained)
    train(trained, batches, how.steps, how.validate_every, losses, how.progress, how.observe, checkpoint)
    places: dict[int, tuple[Chunk, Layout, int]] = {}
    for chunk, layout in chunks:
        losses[chunk.members] = chunk.best.to(losses)
        places |= {member: (chunk, layout, place) for place, member in enumerate(chunk.members)}
    wanted = [int(losses.argmin())] if best_only else range(len(settings))
    earlier = 0.0 if checkpoint is None else checkpoint.seconds
    results: list[Adaptation[Model]] = []
    for member in wanted:
        adapters: dict[str, Adapter] = {}
        biases: dict[str, Tensor] = {}
        if member in places:
            chunk, layout, place = places[member]
            adapters, biases = layout.read(frozen, chunk.kept, place, settings[member])
        model = merge(frozen, adapters, biases)
        certificate = judge(model, float(losses[member]))
        seconds = earlier + perf_counter() - started
        results.append(Adaptation(model, adapters, biases, certificate, _method(name, settings[member], how), seconds))
    if checkpoint is not None:
        checkpoint.remove()
    return results


def _checkpoint(
    frozen: Model, target: Model, settings: Sequence[Setting], how: How, before: Tensor, chunks: Sequence[Chunk]
) -> Checkpoint | None:
    """The file that the run goes on from, if one is wanted; all that decides the result tells it from another run's."""
    if how.checkpoint is None:
        return None
    run: dict[str, object] = {
        "frozen model": frozen,
        "target": target,
        "members": settings,
        "steps": how.steps,
        "batch": how.batch,
        "validate_every": how.validate_every,
        "objective": how.objective,
        "optimizer": how.optimizer,
        "samples": how.samples,
        "held_out": how.held_out,
        "generator": before,
        "observe": how.observe is not None,
        "engine": [(chunk.engine, chunk.members) for chunk in chunks],
    }
    return Checkpoint(how.checkpoint, how.checkpoint_every, {part: fingerprint(value) for part, value in run.items()})


def _method(name: str, setting: Setting, how: How) -> str:
    decay = f", weight decay {setting.weight_decay:g}" if setting.weight_decay else ""
    ratio = f", of B {setting.lr_ratio:g} times that" if setting.lr_ratio != 1 else ""
    kind = f", {how.objective}" if how.objective != "mse" else ""
    return f"{how.optimizer} {name}, lr {setting.lr:g}{ratio}{decay}{kind}"


def _lowest(frozen: Model, settings: Sequence[Setting]) -> int:
    """The first layer of an FNN that any run trains: what comes before is the same for all, and is not repeated."""
    if not isinstance(frozen, FNN):
        return 0
    trained = {name for setting in settings for name in Layout.of([setting]).names}
    layers = [int(name.split(".")[1]) for name in trained]
    return min(layers, default=frozen.depth - 1)


def _networks(
    frozen: Model, target: Model, lowest: int, engine: Engine
) -> tuple[Callable[[Tensor], Tensor] | None, Callable[[Tensor], Tensor] | None]:
    """What computes the layers before the first that is trained, if any, and the target's outputs, if not itself."""
    prefix = _prefix(frozen, lowest)
    library = load().library if engine.name == "compiled" else None
    if library is None:
        return prefix, None
    # a float64 target's last bit is seldom seen in what is left of it in float32
    exact = target if isinstance(target, FNN) and target.linears[0].weight.dtype == torch.float32 else None
    lift = None if prefix is None else CompiledOutputs(library, prefix)
    return lift, None if exact is None else CompiledOutputs(library, exact)


def _prefix(frozen: Model, lowest: int) -> FNN | None:
    if lowest == 0 or not isinstance(frozen, FNN):
        return None
    layers = frozen.linears[:lowest]
    biases = [layer.bias.detach() for layer in layers] if frozen.has_bias else None
    return FNN.from_weights([layer.weight.detach() for layer in layers], biases, frozen.activation)


def _loss_of(frozen: Model, batches: Batches, lowest: int, kind: ObjectiveName) -> float:
    """The frozen model's own loss on the held-out batch."""
    inputs, targets = batches.validation
    model: Model = frozen
    if isinstance(frozen, FNN):
        layers = frozen.linears[lowest:]
        biases = [layer.bias.detach() for layer in layers] if frozen.has_bias else None
        model = FNN.from_weights([layer.weight.detach() for layer in layers], biases, frozen.activation)
    with torch.no_grad():
        outputs = model(inputs).flatten(0, -2).mT.unsqueeze(0)
        found = outputs.new_empty(1)
        output_loss(kind, tuple(outputs.shape), outputs).values(outputs, targets.flatten(0, -2).mT, found)
        return float(found)


def _chunks(
    frozen: Model, settings: Sequence[Setting], how: How, lowest: int, batches: Batches, engine: Engine
) -> list[tuple[Chunk, Layout]]:
    """All members that train anything."""
    if engine.name == "torch":
        workspace, groups = Workspace(), _groups(frozen, settings, batches)
        return [_chunk(frozen, [settings[one] for one in group], group, how, lowest, workspace) for group in groups]
    library, rows = load().library, Rows()
    assert isinstance(frozen, FNN) and library is not None
    chunks: list[tuple[Chunk, Layout]] = []
    for members in _alike(settings):
        chosen = [settings[member] for member in members]
        layout, decoupled = Layout.of(chosen), how.optimizer == "adamw"
        chunk = CompiledChunk(library, frozen, layout, chosen, members, lowest, rows, how.objective, decoupled)
        chunks.append((chunk, layout))
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


def _chunk(
    frozen: Model, settings: Sequence[Setting], members: list[int], how: How, lowest: int, workspace: Workspace
) -> tuple[Chunk, Layout]:
    layout = Layout.of(settings)
    objective: Objective
    if isinstance(frozen, FNN):
        objective = _layered(frozen, layout, how.objective, lowest, workspace)
    else:
        objective = TransformerGradient(frozen, layout, how.objective)
    rates, decays = [setting.lr for setting in settings], [setting.weight_decay for setting in settings]
    start, decoupled = layout.start(frozen, settings), how.optimizer == "adamw"
    return TorchChunk.of(members, objective, start, rates, decays, layout.multipliers, decoupled), layout


def _layered(
    frozen: FNN, layout: Layout, objective: ObjectiveName, lowest: int, workspace: Workspace
) -> LayeredGradient:
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
        objective=objective,
        workspace=workspace,
    )
