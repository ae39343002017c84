"""One refinement from checked input to certificate, whatever the kind of network."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic, perf_counter

import torch
from torch import Tensor

from ...adaptation import (
    Adaptation,
    Ball,
    Certificate,
    Domain,
    Sampler,
    bound_networks,
    check_seconds,
    draw_samples,
    region_of,
)
from ...linalg import threads_for
from ...models import FNN, TransformerNetwork
from ...theory import Model, Partition, check_pair, find_partition, fnn_matches, matches_for
from ..inputs import check_partition
from ..stable import stable
from .fnn import RefinedFNN, refine_fnn
from .linear import refine_linear
from .profile import ProfileName, profile_named
from .source import InputSource, input_source
from .transformer import refine_transformer

__all__ = ["Found", "Job", "Progress", "job_for", "refine"]

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Job:
    """What is the same for every rank."""

    frozen: Model
    target: Model
    partition: Partition | None
    domain: Domain
    source: InputSource
    samples: Tensor
    seconds: float
    generator: torch.Generator
    profile: ProfileName


@dataclass(frozen=True)
class Found:
    """An adaptation, with what a refinement of more rank starts from."""

    adaptation: Adaptation[Model]
    loss: float
    network: RefinedFNN | None = None


def job_for(
    frozen: Model,
    target: Model,
    partition: Sequence[Sequence[int]] | None,
    domain: Domain | None,
    samples: Tensor | None,
    sampler: Sampler | None,
    seconds: float,
    generator: torch.Generator | None,
    profile: ProfileName,
) -> Job:
    """Every fault of the input is found here, before any work is done."""
    check_pair(frozen, target)
    profile_named(profile)
    check_seconds(seconds)
    groups = check_partition(frozen, target, partition)
    like = next(iter(frozen.parameters())).detach()
    source_of = generator or torch.Generator().manual_seed(0)
    if isinstance(target, FNN):
        shape: tuple[int, ...] = (target.linears[0].weight.shape[1],)
        width = frozen.width if isinstance(frozen, FNN) else 0
    else:
        shape = (-1, target.embed_dim)
        width = frozen.embed_dim if isinstance(frozen, TransformerNetwork) else 0
    drawn = draw_samples(shape, samples, sampler, source_of, like)
    linear = isinstance(frozen, FNN) and frozen.activation == "identity"
    source = input_source(tuple(drawn.shape[1:]), samples, sampler, source_of, like.device, hold_out=not linear)
    place = Ball(6 * width**0.5) if domain is None else domain
    region_of(place, width, shape[-1], like)
    return Job(frozen, target, groups, place, source, drawn, seconds, source_of, profile)


def refine(job: Job, ranks: Mapping[str, int], lower: Found | None, progress: Progress | None) -> Found:
    """One rank: exact where it can be, refined where it cannot, and then never worse than ``lower``."""
    started = perf_counter()
    deadline = monotonic() + job.seconds if job.seconds > 0 else -math.inf
    frozen, target = job.frozen, job.target
    with threads_for(frozen.width if isinstance(frozen, FNN) else frozen.embed_dim):
        if isinstance(frozen, FNN) and isinstance(target, FNN):
            found = _refine_fnn(job, frozen, target, ranks, deadline, lower, progress)
        else:
            assert isinstance(frozen, TransformerNetwork) and isinstance(target, TransformerNetwork)
            found = _refine_transformer(job, frozen, target, ranks, deadline, lower, progress)
    exact = found.adaptation.certificate.exact  # on every input, which rounding on a few must not outdo
    if lower is not None and lower.loss < found.loss and not exact:
        found = _standing(lower)
    if progress is not None:
        progress(1.0, "done")
    return replace(found, adaptation=replace(found.adaptation, seconds=perf_counter() - started))


def _standing(lower: Found) -> Found:
    """The solution of a lower rank, where more rank found nothing better."""
    certificate = lower.adaptation.certificate
    note = "nothing better was found with more rank: the solution of a lower one stands"
    conditions = (note, *(one for one in certificate.conditions if one != note))
    return replace(lower, adaptation=replace(lower.adaptation, certificate=replace(certificate, conditions=conditions)))


def _exact(job: Job, ranks: Mapping[str, int], partition: Partition | None) -> Found | None:
    """The exact adaptation, where these ranks suffice for one."""
    matches = matches_for(job.frozen, job.target, partition)
    if not all(match.closed_by(tuple(ranks[name] for name in match.names)) for match in matches):
        return None
    divided = isinstance(job.frozen, FNN) and job.frozen.activation == "relu"
    adaptation = stable(
        job.frozen,
        job.target,
        ranks=ranks,
        partition=partition if divided else None,
        domain=job.domain,
        samples=job.samples,
        seconds=job.seconds,
    )
    return Found(adaptation, _loss(adaptation.model, job))


def _refine_fnn(
    job: Job,
    frozen: FNN,
    target: FNN,
    ranks: Mapping[str, int],
    deadline: float,
    lower: Found | None,
    progress: Progress | None,
) -> Found:
    groups = job.partition or find_partition(frozen, target, ranks)
    exact = _exact(job, ranks, groups)
    if exact is not None:
        return exact
    network = None
    if frozen.activation == "identity":
        realised = refine_linear(frozen, target, ranks, job.source, job.domain)
        method, notes, loss = "weighted truncation", (), _loss(realised.model, job)
    else:
        network = refine_fnn(
            frozen,
            target,
            ranks,
            groups,
            job.source,
            job.domain,
            profile_named(job.profile),
            job.generator,
            deadline=deadline,
            lower=None if lower is None else lower.network,
            progress=progress,
        )
        realised, method, notes, loss = network.realised, network.method, network.conditions, network.loss
    conditions = (_shortfall(frozen, target, groups, ranks, loss), *notes, *realised.conditions)
    certificate = _certified(realised.model, target, job, groups, conditions)
    return Found(Adaptation(realised.model, realised.adapters, realised.biases, certificate, method), loss, network)


def _refine_transformer(
    job: Job,
    frozen: TransformerNetwork,
    target: TransformerNetwork,
    ranks: Mapping[str, int],
    deadline: float,
    lower: Found | None,
    progress: Progress | None,
) -> Found:
    exact = _exact(job, ranks, None)
    if exact is not None:
        return exact
    if not (frozen.is_paper_form and target.is_paper_form):
        found = stable(frozen, target, ranks=ranks, domain=job.domain, samples=job.samples, seconds=job.seconds)
        note = "closed form only: transformers with skips, normalisation or other head sizes are not refined"
        conditions = (*found.certificate.conditions, note)
        return _found(replace(found, certificate=replace(found.certificate, conditions=conditions)), job)
    found = refine_transformer(
        frozen,
        target,
        ranks,
        job.source,
        job.domain,
        profile=job.profile,
        deadline=deadline,
        generator=job.generator,
        progress=progress,
        start=_transformer(lower),
    )
    return _found(found, job)


def _transformer(lower: Found | None) -> Adaptation[TransformerNetwork] | None:
    if lower is None or not isinstance(lower.adaptation.model, TransformerNetwork):
        return None
    found = lower.adaptation
    return Adaptation(lower.adaptation.model, found.adapters, found.biases, found.certificate, found.method)


def _found(adaptation: Adaptation[Model], job: Job) -> Found:
    return Found(adaptation, _loss(adaptation.model, job))


def _shortfall(frozen: FNN, target: FNN, groups: Partition, ranks: Mapping[str, int], loss: float) -> str:
    matches = fnn_matches(frozen, target, groups)
    sums = [(match.gap.rank, sum(ranks[name] for name in match.names)) for match in matches]
    short = [f"{gap} against {total}" for gap, total in sums if total < gap]
    why = f"gaps of {', '.join(short)} (the sum of the ranks)" if short else "frozen weights are singular"
    return f"rank too small: {why}; the mean squared error is {loss:.4g} on the inputs it was chosen by"


def _certified(model: FNN, target: FNN, job: Job, groups: Partition, conditions: tuple[str, ...]) -> Certificate:
    """Never exact: ranks that suffice are not refined."""
    partition = None if model.activation == "identity" else groups
    bounds = bound_networks(model, target, job.domain, partition, job.samples)
    error, expected = bounds.error, bounds.expected
    if bounds.inactive:  # where hidden ReLUs are kept, comparing the networks as wholes may be tighter
        whole = bound_networks(model, target, job.domain, None, job.samples)
        error = min(error, whole.error)
        expected = None if expected is None or whole.expected is None else min(expected, whole.expected)
    return Certificate(error, expected, bounds.residual, False, job.domain, conditions)


def _loss(model: Model, job: Job) -> float:
    """Mean squared error on the validation inputs."""
    inputs = job.source.validation
    dtype = next(iter(model.parameters())).dtype
    width = model.width if isinstance(model, FNN) else model.embed_dim
    with torch.no_grad():
        wanted = job.target(inputs.to(next(iter(job.target.parameters())).dtype)).double()
        padded = torch.nn.functional.pad(inputs, (0, width - inputs.shape[-1])).to(dtype)
        found = model(padded).double()[..., : wanted.shape[-1]]
    loss = float((found - wanted).square().mean())
    return loss if math.isfinite(loss) else math.inf
