"""The error of an adapted transformer, sample by sample, from what the target's activations on them are."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ShapeError
from ..models import Block, TransformerNetwork, check_paper_form
from ..shapes import Float
from .transformer_certificate import hidden_shift

__all__ = ["bound_on_samples"]

# Samples treated at once.
CHUNK = 256


@dataclass
class _State:
    """Before a block: the adapted tokens are ``seen (u + d)``, with ``u`` known from the target."""

    tokens: Tensor  # the target's, (samples, tokens, narrow)
    hidden: Tensor  # u: the target's hidden values that they come from, shifted; (samples, tokens, narrow)
    apart: Tensor  # bound on |d|, (samples, tokens)
    seen: Tensor  # (width, narrow)
    stray: Tensor  # what the adapted tokens are off that, (samples,)


@dataclass(frozen=True)
class _After:
    """After a block's ReLU."""

    hidden: Tensor  # h of the target, (samples, tokens, narrow)
    error: Tensor  # bound on |h' - h|, (samples, tokens)
    extra: Tensor  # bound on the norm of adapted hidden values that the target does not have, (samples,)


@dataclass
class _Sums:
    """Over the heads, for each token: what the change of the hidden values is made of."""

    base: Tensor  # known exactly, (samples, tokens, width)
    goal: Tensor  # the target's hidden values before bias and ReLU, (samples, tokens, narrow)
    spread: Tensor  # what the change of the attention weights and of the inputs may do, (samples, tokens)
    rounding: Tensor  # what rounding and strays may do, (samples,)
    size: Tensor  # norm of the adapted hidden values before bias and ReLU, (samples,)
    surplus: Tensor  # upper bound on those that the target does not have, (samples, width - narrow)


def bound_on_samples(
    model: TransformerNetwork,
    target: TransformerNetwork,
    samples: Float[Tensor, "samples seq embed"],
    *,
    measured: bool = True,
) -> Float[Tensor, " samples"]:
    """For each sample a bound on the largest token's error ``max_n |f(X)_n - fbar(X)_n|``, rounding counted.

    Block by block, with ``u`` the target's hidden values that the block is given, ``|d| <= delta`` what the adapted
    ones are off, ``p`` the target's attention weights on ``u``, ``A`` and ``A + E_kq`` the target's and the adapted
    score matrix, ``B`` and ``B + E_ov`` those of the values, all seen from ``u``::

        tau  = range_j(u_j^T E_kq u) / 2 + (|(A + E) u| + max_j |(A + E)^T (u_j - mean)|) delta + |A + E| delta^2
        TV   <= tanh(tau / 2), and less where one weight is near 1: half the 1-norm of the softmax's change
        eta  = |sum_h E_ov p u| + sum_h |B + E_ov| delta + TV max_jk |(B + E_ov)(u_j - u_k)|

    This is what ``theory.transformer_bound`` becomes once the target's activations are known.

    Args:
        model: adapted in whatever way, merged.
        target: of the same depth, with at most as many heads and coordinates.
        samples: (number, tokens, narrow), inputs of the target.
        measured: take the error measured in float64, with what rounding may do to either network by the recursion
            above, where that is less. False: the recursion alone, which knows residuals and the target's activations
            but never runs the adapted model.

    Returns:
        (number,) bounds in float64.

    Raises:
        ShapeError: depths, heads or widths that do not fit, or networks of another form than the paper's, which
            :func:`.bound_variant` is for.

    Source: new. Cost O(number depth heads tokens (width^2 + tokens width)).

    >>> same = TransformerNetwork(4, 2, 2)
    >>> float(bound_on_samples(same, same, torch.zeros(3, 5, 4).double()).max()) < 1e-6
    True
    """
    check_paper_form("bound_on_samples", model=model, target=target)
    narrow = target.embed_dim
    if model.depth != target.depth or target.num_heads > model.num_heads or narrow > model.embed_dim:
        raise ShapeError(
            f"the target must have depth {model.depth}, at most {model.num_heads} heads and width {model.embed_dim}, "
            f"got depth {target.depth}, {target.num_heads} heads and width {narrow}"
        )
    if samples.ndim != 3 or samples.shape[2] != narrow:
        raise ShapeError(f"samples must be (number, tokens, {narrow}), got {tuple(samples.shape)}")
    eps, target_eps = (torch.finfo(m.output.weight.dtype).eps for m in (model, target))
    found = []
    for part in samples.detach().to(target.output.weight.device, torch.float64).split(CHUNK):
        bound, output = _walk(model, target, part, eps)
        strays, _ = _walk(target, target, part, target_eps)  # the target's own rounding; again, that of following it
        bound = bound + 2 * strays
        if measured:
            padded = torch.nn.functional.pad(part, (0, model.embed_dim - narrow))
            own_strays, own_output = _walk(model, model, padded, eps)
            error = own_output - torch.nn.functional.pad(output, (0, model.embed_dim - narrow))
            bound = torch.minimum(bound, error.norm(dim=-1).amax(dim=1) + 2 * (strays + own_strays))
        found.append(bound)
    return torch.cat(found)


def _walk(model: TransformerNetwork, target: TransformerNetwork, tokens: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The bound, (samples,), without the target's own rounding; and the target's outputs."""
    narrow, width = target.embed_dim, model.embed_dim
    zero = tokens.new_zeros(tokens.shape[:2])
    state = _State(
        tokens, tokens, zero, torch.eye(width, dtype=tokens.dtype, device=tokens.device)[:, :narrow], zero[:, 0]
    )
    after = None
    for index, (block, goal) in enumerate(zip(model.layers, target.layers, strict=True)):
        ours, theirs = _weights(block), _weights(goal)
        after = _block(ours, theirs, state, eps)
        if index < model.depth - 1:
            state = _next(ours, theirs, after, eps, same=model is target)
    assert after is not None
    last, goal = _weights(model.layers[-1]), _weights(target.layers[-1])
    final, wanted = model.output.weight.detach().double(), target.output.weight.detach().double()
    seen = final @ last["ffn_out"]
    product = seen[:, :narrow]
    output = (after.hidden @ goal["ffn_out"].T + goal["ffn_out_bias"]) @ wanted.T
    apart = after.hidden @ product.T + final @ last["ffn_out_bias"]
    apart = (apart - torch.nn.functional.pad(output, (0, width - narrow))).norm(dim=-1)
    size = after.hidden.norm(dim=-1) + after.error
    inner = _norm(last["ffn_out"].abs()) * size + float(last["ffn_out_bias"].norm())
    rounding = 2.02 * (width + 2) * eps * _norm(final.abs()) * inner
    moved = _norm(product) * after.error + _norm(seen[:, narrow:]) * after.extra[:, None]
    return (apart + moved + rounding).amax(dim=1), output


def _block(ours: dict[str, Tensor], theirs: dict[str, Tensor], state: _State, eps: float) -> _After:
    narrow, width = len(theirs["ffn_in"]), len(ours["ffn_in"])
    zeros, none = state.hidden.new_zeros(*state.hidden.shape[:2], width), torch.zeros_like(state.stray)
    sums = _Sums(zeros, zeros[..., :narrow], zeros[..., 0], none, none, zeros[:, 0, narrow:])
    for head in range(len(ours["query"])):
        _add_head(sums, ours, theirs, head, state, eps)
    hidden = torch.relu(sums.goal + theirs["ffn_in_bias"])
    bias, beyond = ours["ffn_in_bias"][:narrow], ours["ffn_in_bias"][narrow:]
    change = torch.cat([bias - theirs["ffn_in_bias"], beyond.clamp(min=0)])
    error = (sums.base + change).norm(dim=-1) + sums.spread
    both = hidden.norm(dim=-1) + sums.size[:, None] + float(ours["ffn_in_bias"].clamp(min=0).norm())
    extra = torch.relu(sums.surplus + beyond).norm(dim=-1)
    return _After(hidden, torch.minimum(error, both) + sums.rounding[:, None], extra)


def _add_head(
    sums: _Sums, ours: dict[str, Tensor], theirs: dict[str, Tensor], head: int, state: _State, eps: float
) -> None:
    narrow, width = len(theirs["ffn_in"]), len(ours["ffn_in"])
    hidden, most, count = state.hidden, state.apart.amax(dim=1), state.hidden.shape[1]
    token = _norm(state.seen) * (hidden.norm(dim=-1).amax(dim=1) + most) + state.stray
    value, matrix = ours["ffn_in"] @ ours["out"][head] @ ours["value"][head], ours["key"][head].T @ ours["query"][head]
    seen, score = value @ state.seen, state.seen.T @ matrix @ state.seen
    values, scores = hidden @ seen.T, _scores(hidden, score)
    if head < len(theirs["query"]):
        goal_value = theirs["ffn_in"] @ theirs["out"][head] @ theirs["value"][head]
        goal_scores = _scores(state.tokens, theirs["key"][head].T @ theirs["query"][head])
        attend = goal_scores.softmax(dim=-1)  # samples, query, key
        goal = attend @ (state.tokens @ goal_value.T)
        change = scores - goal_scores
    else:  # a head that the target lacks: it must contribute nothing
        attend, goal, change = scores.softmax(dim=-1), torch.zeros_like(sums.goal), torch.zeros_like(scores)
    tau = (change.amax(dim=-1) - change.amin(dim=-1)) / 2 + _drift(state, score, most)
    tau = tau + (2 * _norm(matrix) * token * state.stray + _score_rounding(ours, head, eps) * token**2)[:, None]
    moved = (_total_variation(tau, attend) + (count + 8) * eps).clamp(max=1.0)
    felt = (attend @ state.apart[..., None])[..., 0] + moved * (most - state.apart.amin(dim=1))[:, None]
    farthest = torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist").amax(dim=(1, 2))
    sums.goal = sums.goal + goal
    sums.base = sums.base + attend @ values - torch.nn.functional.pad(goal, (0, width - narrow))
    sums.spread = sums.spread + moved * farthest[:, None] + _norm(seen) * torch.minimum(felt, most[:, None])
    sums.rounding = sums.rounding + _norm(value) * state.stray + _value_rounding(ours, head, count, eps) * token
    sums.size = sums.size + values.norm(dim=-1).amax(dim=1) + _norm(seen) * most
    reach = seen[narrow:].norm(dim=1) * most[:, None] + value[narrow:].norm(dim=1) * state.stray[:, None]
    sums.surplus = sums.surplus + values[..., narrow:].amax(dim=1) + reach


def _next(ours: dict[str, Tensor], theirs: dict[str, Tensor], after: _After, eps: float, same: bool) -> _State:
    narrow = len(theirs["ffn_out"])
    seen, mixed, own_bias = ours["ffn_out"][:, :narrow], theirs["ffn_out"], ours["ffn_out_bias"]
    tokens = after.hidden @ mixed.T + theirs["ffn_out_bias"]
    size = (after.hidden.norm(dim=-1) + after.error).amax(dim=1)
    stray = 2 * (narrow + 2) * eps * (_norm(seen.abs()) * size + float(own_bias.norm()))
    stray = stray + _norm(ours["ffn_out"][:, narrow:]) * after.extra
    if same:  # one network, beside itself with rounding: compared by its tokens
        eye = torch.eye(narrow, dtype=tokens.dtype, device=tokens.device)
        return _State(tokens, tokens, _norm(mixed) * after.error, eye, stray)
    shift, own = hidden_shift(mixed, theirs["ffn_out_bias"]), hidden_shift(seen, own_bias)
    stray = stray + float((seen @ own - own_bias).norm())
    return _State(tokens, after.hidden + shift, after.error + float((own - shift).norm()), seen, stray)


def _scores(hidden: Tensor, matrix: Tensor) -> Tensor:
    """``u_key^T G u_query``, (samples, query, key)."""
    return (hidden @ matrix.T) @ hidden.mT


def _drift(state: _State, score: Tensor, most: Tensor) -> Tensor:
    """Change of the scores of each query by the change of the inputs, up to a constant: (samples, query)."""
    hidden = state.hidden
    middle = hidden - hidden.mean(dim=1, keepdim=True)
    keys = (middle @ score).norm(dim=-1).amax(dim=1, keepdim=True)
    return most[:, None] * (hidden @ score.T).norm(dim=-1) + (keys + _norm(score) * most[:, None]) * state.apart


def _total_variation(tau: Tensor, attend: Tensor) -> Tensor:
    """Largest change of an event's probability where scores change by at most tau: (samples, query).

    An event's log-odds change by at most 2 tau: most at odds of ``e^-tau``, by ``tanh(tau / 2)``. Where all weights but
    the largest sum to less, no event comes as near, and one end of that gap is the worst.
    """
    top = attend.argmax(dim=-1, keepdim=True)
    rest = attend.scatter(-1, top, 0.0).sum(dim=-1) * (1 + 1e-6)
    shrink = torch.exp(-2 * tau)

    def moved(weight: Tensor) -> Tensor:
        return weight * (1 - weight) * -torch.expm1(-2 * tau) / (weight + (1 - weight) * shrink).clamp(min=1e-300)

    ends = torch.maximum(moved(rest), moved((1 - rest).clamp(min=0)))
    return torch.where(rest <= torch.sigmoid(-tau), ends, torch.tanh(tau / 2))


def _weights(block: Block) -> dict[str, Tensor]:
    names = {"ffn_in": block.ffn_in.weight, "ffn_in_bias": block.ffn_in.bias}
    names |= {"ffn_out": block.ffn_out.weight, "ffn_out_bias": block.ffn_out.bias}
    names |= {"query": block.query, "key": block.key, "value": block.value, "out": block.out}
    return {name: value.detach().double() for name, value in names.items()}


def _score_rounding(weights: dict[str, Tensor], head: int, eps: float) -> float:
    """In units of the squared token; twice, for the evaluation here."""
    query, key = weights["query"][head], weights["key"][head]
    size = _norm(query.abs()) * _norm(key) + 2 * _norm(query) * _norm(key.abs())
    return 1.01 * (query.shape[-1] + 4) * eps * size


def _value_rounding(weights: dict[str, Tensor], head: int, tokens: int, eps: float) -> float:
    size = _norm(weights["ffn_in"].abs()) * _norm(weights["out"][head].abs()) * _norm(weights["value"][head].abs())
    return 1.01 * (3 * len(weights["ffn_in"]) + tokens + len(weights["query"]) + 8) * eps * size


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2)) if matrix.numel() else 0.0
