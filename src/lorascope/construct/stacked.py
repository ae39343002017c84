"""Adaptation with one adapter for the stacked matrices of all heads, as PEFT has it."""

from collections.abc import Mapping, Sequence
from time import monotonic, perf_counter

import torch
from torch import Tensor

from ..adaptation import Adaptation, Domain, check_ranks, check_seconds, draw_samples
from ..errors import ShapeError
from ..linalg import threads_for
from ..models import Adapter, TransformerNetwork
from ..theory import NarrowMatch, VariantPlan, check_pair, plan_variant
from .assemble import assembled
from .chain import solve_match
from .gauge import solve_narrow
from .shared import SOLVED, Shared, solve_shared
from .variant import certify_variant

__all__ = ["stack_heads", "stacked"]


def stacked(
    frozen: TransformerNetwork,
    target: TransformerNetwork,
    rank: int | None = None,
    *,
    ranks: Mapping[str, int] | None = None,
    domain: Domain | None = None,
    seconds: float = 30,
    generator: torch.Generator | None = None,
) -> Adaptation[TransformerNetwork]:
    """As :func:`stable`, but query, key, value and output matrices have one adapter each for all heads together.

    The adapter of the stacked (H d, D) queries is ``[B_1; ...; B_H] A``, so all heads share A, and of the (D, H d)
    outputs ``B [A_1, ..., A_H]``. :func:`stable` gives every head its own and needs less rank,
    ``min(d, ceil(D / 2))`` in place of :func:`.theory.stacked_rank` for generic weights. The adapters returned have a
    heads axis, with the shared factor repeated; :func:`stack_heads` gives PEFT's two-dimensional form.

    Args:
        frozen: any transformer, float32 or float64; left as it is.
        target: of the same form and width.
        rank: cap of every adapter.
        ranks: instead of ``rank``: parameter name -> cap; names left out get none.
        domain: of every token; default ``Ball(6 sqrt(width))``. The expected error is that over 512 sequences of ten
            tokens of N(0, I).
        seconds: once they have passed, no further starting points are tried.
        generator: of the starting points; default a fixed seed.

    Returns:
        The adaptation. Adapters of heads come from a numerical search: where it fails, ``conditions`` says how close it
        came, and each stacked factor has the best low-rank change for the other one.

    Raises:
        ShapeError: models that cannot be compared, or no transformers.
        RankError, SpecError: as :func:`stable`.

    Source: new. Cost O((H d D)^3) a step, some ten steps a start.

    >>> made = torch.Generator().manual_seed(0)
    >>> frozen, target = (TransformerNetwork(4, 2, 1, head_dim=2, residual=True, generator=made) for _ in range(2))
    >>> stacked(frozen, target, 4).certificate.exact
    True
    """
    started = perf_counter()
    check_pair(frozen, target)
    if not (isinstance(frozen, TransformerNetwork) and isinstance(target, TransformerNetwork)):
        raise ShapeError(f"stacked adapters are for transformers, got {type(frozen).__name__}; use construct.stable")
    if target.embed_dim < frozen.embed_dim:
        raise ShapeError(f"stacked adapters need embed_dim {frozen.embed_dim} of the target, got {target.embed_dim}")
    check_seconds(seconds)
    allowed = check_ranks(frozen, rank, ranks)
    source = torch.Generator().manual_seed(0) if generator is None else generator
    with threads_for(frozen.embed_dim):
        drawn = draw_samples((-1, target.embed_dim), None, None, None, frozen.output.weight)
        plan = plan_variant(frozen, target)
        adapters, methods, conditions, closed = _single(frozen, plan, allowed)
        found, notes = _heads(frozen, plan, allowed, seconds, source)
        adapters |= found
        conditions += notes
        closed = closed and not notes
        model, biases, certificate = certify_variant(frozen, target, plan, adapters, domain, drawn, closed, conditions)
    method = ", ".join(dict.fromkeys([*methods, "shared gauge"]))
    return Adaptation(model, adapters, biases, certificate, method, perf_counter() - started)


def stack_heads(name: str, adapter: Adapter) -> Adapter:
    """The two-dimensional adapter of the stacked weight, from one with a heads axis whose shared factor is repeated.

    Args:
        name: of the parameter; one that ends in ``out`` is stacked along its inputs, others along their outputs.
        adapter: A (heads, rank, in) and B (heads, out, rank), as :func:`stacked` returns them.

    Returns:
        A (rank, in) and B (heads * out, rank); for ``out`` A (rank, heads * in) and B (out, rank).

    Raises:
        ShapeError: no heads axis, or heads that do not share the factor.

    >>> one = Adapter(A=torch.ones(2, 1, 4), B=torch.ones(2, 3, 1))
    >>> stack_heads("blocks.0.query", one).delta.shape
    torch.Size([6, 4])
    """
    along_inputs = name.endswith("out")
    shared = adapter.B if along_inputs else adapter.A
    if shared.ndim != 3 or not torch.equal(shared, shared[:1].expand_as(shared)):
        raise ShapeError(
            f"{name}: stacking needs a heads axis and heads that share {'B' if along_inputs else 'A'}, "
            f"got A {tuple(adapter.A.shape)}, B {tuple(adapter.B.shape)}; construct.stacked makes such adapters"
        )
    if along_inputs:
        return Adapter(A=adapter.A.transpose(0, 1).flatten(1), B=adapter.B[0])
    return Adapter(A=adapter.A[0], B=adapter.B.flatten(0, 1))


def _single(
    frozen: TransformerNetwork, plan: VariantPlan, allowed: Mapping[str, int]
) -> tuple[dict[str, Adapter], list[str], list[str], bool]:
    """Adapters of the matrices without heads."""
    parts: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}
    methods: list[str] = []
    conditions: list[str] = []
    closed = True
    for match in plan.matches:
        if match.head is not None:
            continue
        given = tuple(allowed[name] for name in match.names)
        solved = solve_narrow(match, given) if isinstance(match, NarrowMatch) else solve_match(match, given)
        methods.append(solved.method)
        conditions += solved.conditions
        closed = closed and match.closed_by(given)
        for name, b, a in zip(match.names, solved.factors.left, solved.factors.right, strict=True):
            parts.setdefault(name, {})[0] = (b, a)
    return assembled(frozen, parts), methods, conditions, closed


def _heads(
    frozen: TransformerNetwork, plan: VariantPlan, allowed: Mapping[str, int], seconds: float, source: torch.Generator
) -> tuple[dict[str, Adapter], list[str]]:
    """Adapters of all stacked matrices, each pair with its share of the time that is left."""
    products = [heads for block in plan.blocks for heads in (block.scores, block.values)]
    end = monotonic() + seconds
    adapters: dict[str, Adapter] = {}
    notes: list[str] = []
    for done, heads in enumerate(products):
        share = (end - monotonic()) / (len(products) - done)
        found, missing = _shared(frozen, heads, allowed, share, source)
        adapters |= found
        notes += missing
    return adapters, notes


def _shared(
    frozen: TransformerNetwork,
    heads: Sequence[NarrowMatch],
    allowed: Mapping[str, int],
    seconds: float,
    generator: torch.Generator,
) -> tuple[dict[str, Adapter], list[str]]:
    """Adapters of two stacked factors, and what is missing."""
    if not heads or 0 in heads[0].wanted.shape or all(match.gap.rank == 0 for match in heads):
        return {}, []
    first, second = heads[0].names
    total = frozen.num_heads * heads[0].inner
    ranks = (
        min(allowed[first], total, heads[0].right.shape[1]),
        min(allowed[second], total, heads[0].left.shape[0]),
    )
    found = solve_shared(heads, ranks, monotonic() + seconds, generator)
    notes = []
    if found.residual > SOLVED:
        notes.append(
            f"no shared adapters of ranks {ranks[0]} and {ranks[1]} found for {first} and {second} of all "
            f"{len(heads)} heads: after {found.starts} starts the nearest misses a head's product by "
            f"{found.residual:.3g}, relative"
        )
    return _with_heads(frozen, heads, found), notes


def _with_heads(frozen: TransformerNetwork, heads: Sequence[NarrowMatch], found: Shared) -> dict[str, Adapter]:
    """Both factors with a heads axis; heads that were not matched keep their weights."""
    dtype, count = frozen.output.weight.dtype, frozen.num_heads
    spare = (0, 0, 0, 0, 0, count - len(heads))
    adapters = {}
    if found.first_in.numel():
        own = torch.nn.functional.pad(found.first_out, spare)
        adapters[heads[0].names[0]] = Adapter(A=found.first_in.expand(count, -1, -1).to(dtype), B=own.to(dtype))
    if found.second_out.numel():
        own = torch.nn.functional.pad(found.second_in, spare)
        shared = found.second_out.expand(count, -1, -1)
        a, b = (shared.mT, own.mT) if heads[0].transposed[1] else (own, shared)
        adapters[heads[0].names[1]] = Adapter(A=a.to(dtype).contiguous(), B=b.to(dtype).contiguous())
    return adapters
