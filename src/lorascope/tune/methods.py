"""Adaptation by gradient steps: LoRA, and what it is compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Unpack

import torch

from ..adaptation import Adaptation, check_ranks
from ..errors import SpecError
from ..theory import Model, check_pair
from .keywords import How, Steps, showing
from .runs import run
from .settings import (
    Setting,
    bias_names,
    check_count,
    check_rate,
    check_rates,
    check_start,
    layer_names,
    lora_names,
    weight_names,
)
from .start import ZERO, Start

__all__ = ["biases", "full", "last_layers", "lora"]


@showing(Steps)
def lora(
    frozen: Model,
    target: Model,
    rank: int | None = None,
    *,
    ranks: Mapping[str, int] | None = None,
    lr: float | Sequence[float] = 1e-3,
    weight_decay: float | Sequence[float] = 0.0,
    lr_ratio: float = 1.0,
    tune_bias: bool = True,
    start: Start = ZERO,
    **how: Unpack[Steps],
) -> Adaptation[Model]:
    """Adapters trained by Adam on the distance to the target, by default ``min E ||f(x) - fbar(x)||^2 / D``.

    Several learning rates or weight decays are trained side by side, each pair from the same start and on the same
    batches; the run of the lowest loss on a held-out batch is returned.

    Args:
        frozen: FNN or TransformerNetwork, float32 or float64, which is what the steps compute in; left as it is.
        target: of the same kind, no deeper, no wider.
        rank: of every adapter: on all weights of an FNN; of a transformer on those Theorem 7 adapts (query, key, value
            and out of every block, the last ffn_out, output).
        ranks: instead of ``rank``: parameter name -> rank, any weight; names left out get no adapter.
        lr: learning rate, or several.
        weight_decay: or several. For the optimizer ``"adam"`` added to the gradient, times the parameter (L2); for
            ``"adamw"`` the parameter shrinks by lr times it every step (decoupled). Both as in torch.
        lr_ratio: learning rate of B relative to ``lr``, which A and the biases have (LoRA+ where it is above 1).
        tune_bias: whether the biases are trained too.
        start: where the factors start; default A ~ N(0, 0.25^2), B = 0.
        steps: of the optimiser, default 5000.
        batch: rows of a batch, default 256.
        generator: of all draws, in this order: the seed of the start, the held-out batch, the batches.
        validate_every: steps between looks at the held-out loss; the parameters that had the lowest are returned. 0:
            one look, at the end, and the last parameters are returned.
        objective: ``"mse"``, or the divergence of class probabilities for ``"classification"`` (one class a coordinate)
            or ``"binary"`` (the sums of two halves): :func:`lorascope.optim.output_loss`. The losses are of this kind.
        optimizer: ``"adam"`` or ``"adamw"``.
        domain: for the certificate; default ``Ball(6 sqrt(width))``.
        samples: (number, inputs), or (number, tokens, inputs) for transformers: a finite set to train on, and to
            validate on unless there is ``held_out``. Default: fresh draws of N(0, I) every step (ten tokens a
            sequence).
        sampler: instead of ``samples``: number -> samples, called for every batch.
        held_out: inputs to validate on, shaped as ``samples``, instead of a batch held out.
        checkpoint: file that a run writes as it goes, and goes on from if it is there: to the same bits, and the same
            calls of ``observe``, as if never stopped. Removed at the end.
        checkpoint_every: seconds between writes.
        progress: called with the share of the work done and a line about it.
        observe: called with a step and the held-out losses before it, one a run (``lr`` outer, ``weight_decay`` inner).
        engine: what computes the steps, ``"torch"``, ``"compiled"``, or, ``"auto"``, the latter where it can:
            :func:`.engine_for`.

    Returns:
        The adaptation; its certificate bounds the error on the whole domain, however the steps went, and leaves the
        expected error out.

    Raises:
        ShapeError, RankError, SpecError: input that says nothing usable, or a checkpoint of another run, before any
            work is done.

    Source: Zeng & Lee 2024, Section 5 and Appendix G ("gradient update"). Departs in that every batch is fresh and the
    held-out one is never trained on. ``lr_ratio``: Hayou, Ghosh & Yu 2024. Cost O(steps batch width^2) a layer and run,
    whatever the rank.

    >>> from lorascope.models import FNN
    >>> frozen, target = FNN(4, 2), FNN(4, 1)
    >>> lora(frozen, target, rank=2, lr=[1e-2, 1e-3], steps=5).adapters["layers.0.weight"].A.shape
    torch.Size([2, 4])
    """
    check_pair(frozen, target)
    allowed = check_ranks(frozen, rank, ranks)
    if ranks is None:
        names = lora_names(frozen)
        allowed = {name: number for name, number in allowed.items() if name in names}
    ratio = check_rate("lr_ratio", lr_ratio, zero=False)
    shifts = tuple(bias_names(frozen)) if tune_bias else ()
    trained = Setting(ranks=allowed, biases=shifts, lr_ratio=ratio, start=start)
    check_start(frozen, trained)
    return _best(frozen, target, "lora", trained, lr, weight_decay, How(**how))


@showing(Steps)
def full(
    frozen: Model,
    target: Model,
    *,
    lr: float | Sequence[float] = 1e-3,
    weight_decay: float | Sequence[float] = 0.0,
    tune_bias: bool = True,
    **how: Unpack[Steps],
) -> Adaptation[Model]:
    """Every weight matrix trained whole, by Adam; the differences are returned as adapters (A the identity).

    Args:
        frozen, target, lr, weight_decay, tune_bias, and all that ``how`` has: as in :func:`lora`.

    Raises:
        ShapeError, SpecError: input that says nothing usable, before any work is done.

    Source: Zeng & Lee 2024, Section 5 (the "pretrained" frozen models). Cost as :func:`lora`.

    >>> from lorascope.models import FNN
    >>> full(FNN(4, 2), FNN(4, 1), steps=5).method
    'adam full, lr 0.001'
    """
    check_pair(frozen, target)
    trained = Setting(full=tuple(weight_names(frozen)), biases=tuple(bias_names(frozen)) if tune_bias else ())
    return _best(frozen, target, "full", trained, lr, weight_decay, How(**how))


@showing(Steps)
def last_layers(
    frozen: Model,
    target: Model,
    layers: int,
    *,
    lr: float | Sequence[float] = 1e-3,
    weight_decay: float | Sequence[float] = 0.0,
    tune_bias: bool = True,
    **how: Unpack[Steps],
) -> Adaptation[Model]:
    """The last layers trained whole, by Adam, weights and biases; all before them stay as they are.

    Args:
        layers: how many, counted from the end; of a transformer, blocks, with the output matrix.
        frozen, target, lr, weight_decay, tune_bias, and all that ``how`` has: as in :func:`lora`.

    Raises:
        ShapeError, SpecError: input that says nothing usable, before any work is done.

    Source: Zeng & Lee 2024, Lemma 4 and Appendix G.4. Cost as :func:`lora`, for the trained layers alone.

    >>> from lorascope.models import FNN
    >>> sorted(last_layers(FNN(4, 3), FNN(4, 1), 1, steps=5).adapters)
    ['layers.2.weight']
    """
    check_pair(frozen, target)
    check_count("layers", layers, 0)
    if layers > frozen.depth:
        raise SpecError(f"layers must be at most the frozen model's depth {frozen.depth}, got {layers}")
    names = layer_names(frozen, layers)
    whole = tuple(name for name in weight_names(frozen) if name in names)
    trained = Setting(full=whole, biases=tuple(name for name in bias_names(frozen) if tune_bias and name in names))
    return _best(frozen, target, f"last {layers} layers", trained, lr, weight_decay, How(**how))


@showing(Steps)
def biases(
    frozen: Model,
    target: Model,
    *,
    lr: float | Sequence[float] = 1e-3,
    weight_decay: float | Sequence[float] = 0.0,
    **how: Unpack[Steps],
) -> Adaptation[Model]:
    """All biases trained by Adam, and nothing else (BitFit).

    Args:
        frozen, target, lr, weight_decay, and all that ``how`` has: as in :func:`lora`.

    Raises:
        ShapeError, SpecError: input that says nothing usable, before any work is done.

    Source: Ben Zaken, Goldberg & Ravfogel 2022. Cost as :func:`lora`.

    >>> from lorascope.models import FNN
    >>> biases(FNN(4, 2), FNN(4, 1), steps=5).adapters
    {}
    """
    check_pair(frozen, target)
    trained = Setting(biases=tuple(bias_names(frozen)))
    return _best(frozen, target, "biases", trained, lr, weight_decay, How(**how))


def _best(
    frozen: Model,
    target: Model,
    name: str,
    trained: Setting,
    lr: float | Sequence[float],
    weight_decay: float | Sequence[float],
    how: How,
) -> Adaptation[Model]:
    """Train the grid of rates, and return the best on held-out inputs."""
    rates = check_rates("lr", lr, zero=False)
    decays = check_rates("weight_decay", weight_decay, zero=True)
    source = how.source
    how = replace(how, generator=source)
    seed = int(torch.randint(2**62, (), generator=source, device=source.device))
    settings = [replace(trained, lr=rate, weight_decay=decay, seed=seed) for rate in rates for decay in decays]
    return run(frozen, target, settings, name, how, best_only=True)[0]
