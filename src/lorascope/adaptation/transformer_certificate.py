"""The error of an adapted transformer where every token lies in a domain: matched products, block by block."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models import Block, TransformerNetwork, check_paper_form
from ..shapes import Float

__all__ = ["TransformerBounds", "bound_transformer", "hidden_shift"]

# Sequence length up to which the rounding of the softmax and of the sum over tokens is counted.
TOKENS = 512


@dataclass(frozen=True)
class TransformerBounds:
    """Bounds of an adapted transformer's error, in the Euclidean norm of the largest token.

    Attributes:
        error: at least the supremum over the domain.
        residual: largest relative Frobenius residual over the matched products.
        score_error: largest bound on the change of an attention score, block by block.
    """

    error: float
    residual: float
    score_error: tuple[float, ...]


@dataclass
class _State:
    """Bounds that hold before a block: the target's token is ``C̄ (h + s)``, the adapted one's ``C (h' + s')``."""

    token: float  # |z̄|
    hidden: float  # |h + s|
    apart: float  # |h' + s' - h - s|
    stray: float  # what the adapted token is off C (h' + s')
    seen: Tensor  # C, (width, narrow)
    seen_target: Tensor  # C̄, (narrow, narrow)
    regular: bool  # C̄ may be inverted


def hidden_shift(matrix: Float[Tensor, "out inp"], bias: Float[Tensor, " out"]) -> Float[Tensor, " inp"]:
    """The shift s of the hidden values with ``matrix @ s = bias``, in the least-squares sense."""
    return torch.linalg.lstsq(matrix, bias[:, None], driver="gelsd").solution[:, 0]


def bound_transformer(model: TransformerNetwork, target: TransformerNetwork, radius: float) -> TransformerBounds:
    """Propagate the residuals of all matched products and all rounding through both networks.

    With score error tau and ``pi = 2 tanh(tau / 2)``: ``eta = sum_h |E_ov|(r + d) + |B| d + |B| r pi``, and at the end
    ``|W_o W_2| eta + |E_o| (|h| + eta)``. The change of softmax weights is sharp: ``|p' - p|_1 <= 2 tanh(tau / 2)``.

    Args:
        model: adapted, merged; hidden units beyond a narrower target's are off, as the constructions leave them.
        target: of the same depth, with at most as many heads and coordinates.
        radius: largest norm of an input token.

    Raises:
        ShapeError: networks of another form than the paper's, which :func:`.bound_variant` is for.

    Source: new; Zeng & Lee 2024 leave transformer errors open. Cost O(depth heads width^3).
    """
    check_paper_form("bound_transformer", model=model, target=target)
    narrow, width = target.embed_dim, model.embed_dim
    eps, target_eps = (torch.finfo(m.output.weight.dtype).eps for m in (model, target))
    eye = torch.eye(width, dtype=torch.float64, device=model.output.weight.device)
    state = _State(radius, radius, 0.0, 0.0, eye[:, :narrow], eye[:narrow, :narrow], True)
    adapted_token, residual, scores = radius, 0.0, []
    error = hidden = adapted_hidden = math.inf
    for index, (block, goal) in enumerate(zip(model.layers, target.layers, strict=True)):
        ours, theirs = _weights(block), _weights(goal)
        attention = _attention(ours, theirs, state, eps, target_eps)
        residual, error = max(residual, attention.residual), attention.error
        scores.append(attention.score_error)
        own = sum(_norm(ours["ffn_in"] @ o @ v) for o, v in zip(ours["out"], ours["value"], strict=True))
        hidden = attention.target_gain * state.token + float(theirs["ffn_in_bias"].norm())
        adapted_hidden = own * adapted_token + float(ours["ffn_in_bias"][:narrow].norm())
        error = min(error, hidden + adapted_hidden)
        if index < model.depth - 1:
            adapted_token = _norm(ours["ffn_out"]) * adapted_hidden + float(ours["ffn_out_bias"].norm())
            state = _next(ours, theirs, hidden, error, narrow, eps)
    last, goal = _weights(model.layers[-1]), _weights(target.layers[-1])
    final, wanted = model.output.weight.detach().double(), target.output.weight.detach().double()
    product, goal_product = final @ last["ffn_out"][:, :narrow], wanted @ goal["ffn_out"]
    padded = torch.nn.functional.pad(goal_product, (0, 0, 0, width - narrow))
    offset, goal_offset = final @ last["ffn_out_bias"], wanted @ goal["ffn_out_bias"]
    apart = offset - torch.nn.functional.pad(goal_offset, (0, width - narrow))
    residual = max(residual, float((product - padded).norm() / padded.norm().clamp(min=1e-300)))
    rounding = _tail_rounding(final, last, hidden + error, eps) + _tail_rounding(wanted, goal, hidden, target_eps)
    error = _norm(goal_product) * error + _norm(product - padded) * (hidden + error) + float(apart.norm()) + rounding
    trivial = _norm(goal_product) * hidden + float(goal_offset.norm())
    trivial += _norm(final @ last["ffn_out"]) * adapted_hidden + float(offset.norm()) + rounding
    return TransformerBounds(min(error, trivial), residual, tuple(scores))


@dataclass(frozen=True)
class _Attention:
    error: float  # of the hidden values after the block's ReLU
    residual: float
    score_error: float
    target_gain: float  # sum over heads of |W̄_1 W̄_O W̄_V|


def _attention(
    ours: dict[str, Tensor], theirs: dict[str, Tensor], state: _State, eps: float, target_eps: float
) -> _Attention:
    narrow, width = theirs["ffn_in"].shape[0], ours["ffn_in"].shape[0]
    heads = len(theirs["query"])
    apart_token = _norm(state.seen_target) * state.apart
    adapted_token = _norm(state.seen) * (state.hidden + state.apart) + state.stray
    residual = error = score_error = gain = 0.0
    for head in range(len(ours["query"])):
        query, key, value, out = (ours[name][head] for name in ("query", "key", "value", "out"))
        seen_values = ours["ffn_in"] @ out @ value @ state.seen
        if head >= heads:  # a head the target lacks: it must contribute nothing
            error += _norm(seen_values) * (state.hidden + state.apart)
            error += _norm(ours["ffn_in"] @ out @ value) * state.stray
            error += _value_rounding(ours, head, adapted_token, eps)
            continue
        goal_query, goal_key = theirs["query"][head], theirs["key"][head]
        goal_score = goal_key.T @ goal_query
        wanted = state.seen_target.T @ goal_score @ state.seen_target
        difference = state.seen.T @ key.T @ query @ state.seen - wanted
        residual = max(residual, _relative(difference, wanted))
        size = _norm(goal_score)
        score = min(
            _norm(difference) * (state.hidden + state.apart) ** 2,
            _in_units(difference, state, both=True) * (state.token + apart_token) ** 2,
        )
        score += size * (2 * state.token + apart_token) * apart_token
        score += _norm(key.T @ query) * (2 * adapted_token + state.stray) * state.stray
        score += _score_rounding(query, key, adapted_token, eps)
        score += _score_rounding(goal_query, goal_key, state.token, target_eps)
        score_error = max(score_error, score)
        shift = 2 * math.tanh(min(score, 50.0) / 2) + (TOKENS + 8) * (eps + target_eps)
        goal_value = theirs["ffn_in"] @ theirs["out"][head] @ theirs["value"][head]
        wanted = torch.nn.functional.pad(goal_value @ state.seen_target, (0, 0, 0, width - narrow))
        difference = seen_values - wanted
        residual = max(residual, _relative(difference, wanted))
        size = _norm(goal_value)
        gain += size
        error += min(
            _norm(difference) * (state.hidden + state.apart),
            _in_units(difference, state, both=False) * (state.token + apart_token),
        )
        error += size * (apart_token + state.token * min(shift, 2.0))
        error += _norm(ours["ffn_in"] @ out @ value) * state.stray
        error += _value_rounding(ours, head, adapted_token, eps)
        error += _value_rounding(theirs, head, state.token, target_eps)
    error += float((ours["ffn_in_bias"][:narrow] - theirs["ffn_in_bias"]).norm())
    return _Attention(error, residual, score_error, gain)


def _next(
    ours: dict[str, Tensor], theirs: dict[str, Tensor], hidden: float, error: float, narrow: int, eps: float
) -> _State:
    seen, seen_target = ours["ffn_out"][:, :narrow], theirs["ffn_out"]
    shift, own = hidden_shift(seen_target, theirs["ffn_out_bias"]), hidden_shift(seen, ours["ffn_out_bias"])
    stray = float((seen @ own - ours["ffn_out_bias"]).norm() + (seen_target @ shift - theirs["ffn_out_bias"]).norm())
    stray += (narrow + 2) * eps * (_norm(seen.abs()) * (hidden + error) + float(ours["ffn_out_bias"].norm()))
    values = torch.linalg.svdvals(seen_target)
    return _State(
        token=_norm(seen_target) * hidden + float(theirs["ffn_out_bias"].norm()),
        hidden=hidden + float(shift.norm()),
        apart=error + float((own - shift).norm()),
        stray=stray,
        seen=seen,
        seen_target=seen_target,
        regular=float(values[-1]) > 1e-12 * float(values[0]),
    )


def _weights(block: Block) -> dict[str, Tensor]:
    names = {"ffn_in": block.ffn_in.weight, "ffn_in_bias": block.ffn_in.bias}
    names |= {"ffn_out": block.ffn_out.weight, "ffn_out_bias": block.ffn_out.bias}
    names |= {name: getattr(block, name) for name in ("query", "key", "value", "out")}
    return {name: value.detach().double() for name, value in names.items()}


def _in_units(difference: Tensor, state: _State, both: bool) -> float:
    """Norm of a difference of hidden coordinates, in the target's token coordinates."""
    if not state.regular:
        return math.inf
    turned = torch.linalg.solve(state.seen_target, difference, left=False)
    return _norm(torch.linalg.solve(state.seen_target.T, turned) if both else turned)


def _score_rounding(query: Tensor, key: Tensor, token: float, eps: float) -> float:
    gamma = (query.shape[-1] + 4) * eps / 2
    return 1.01 * gamma * (_norm(query.abs()) * _norm(key) + 2 * _norm(query) * _norm(key.abs())) * token**2


def _value_rounding(weights: dict[str, Tensor], head: int, token: float, eps: float) -> float:
    size = _norm(weights["ffn_in"].abs()) * _norm(weights["out"][head].abs()) * _norm(weights["value"][head].abs())
    return 1.01 * (3 * len(weights["ffn_in"]) + TOKENS + len(weights["query"]) + 8) * eps / 2 * size * token


def _tail_rounding(final: Tensor, weights: dict[str, Tensor], hidden: float, eps: float) -> float:
    inner = _norm(weights["ffn_out"].abs()) * hidden + float(weights["ffn_out_bias"].norm())
    return 1.01 * (len(final) + 2) * eps * _norm(final.abs()) * inner


def _relative(difference: Tensor, wanted: Tensor) -> float:
    return float(difference.norm() / wanted.norm()) if float(wanted.norm()) > 0 else 0.0


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))
