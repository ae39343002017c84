"""The error of adapted transformers with skips, normalisations, biases, narrow heads or wide hidden layers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..models import Block, TransformerNetwork
from ..shapes import Float
from ..theory import block_bias, centred_basis
from .transformer_certificate import TransformerBounds

__all__ = ["bound_variant"]

# Sequence length up to which the rounding of the softmax and of the sum over tokens is counted.
TOKENS = 512


@dataclass(frozen=True)
class _Side:
    """One network's tokens: ``columns y + shift`` with ``|y| <= reach``, evaluated up to ``stray``."""

    columns: Tensor
    shift: Tensor
    reach: float
    stray: float = 0.0

    @property
    def token(self) -> float:
        return _norm(self.columns) * self.reach + float(self.shift.norm()) + self.stray


@dataclass(frozen=True)
class _Tokens:
    """Tokens of both networks in shared coordinates y, which are ``apart`` at most; ``same`` where they are equal."""

    ours: _Side
    goal: _Side
    apart: float
    same: bool = False

    @property
    def drift(self) -> float:
        """How far apart the tokens are, where that is seen."""
        ours, goal = self.ours, self.goal
        moved = _norm(ours.columns - goal.columns) * goal.reach + _norm(ours.columns) * self.apart
        return moved + float((ours.shift - goal.shift).norm()) + ours.stray + goal.stray


@dataclass(frozen=True)
class _Step:
    """Bounds on both networks' updates and on their difference as it is seen."""

    ours: float
    goal: float
    apart: float
    residual: float = 0.0
    score_error: float = 0.0


@dataclass(frozen=True)
class _Send:
    """How a layer's output is seen, ``matrix @ output + offset``, in both networks."""

    ours: Tensor
    goal: Tensor
    offset: Tensor
    goal_offset: Tensor


def bound_variant(
    model: TransformerNetwork,
    target: TransformerNetwork,
    radius: float,
    frames: Sequence[Float[Tensor, "embed embed"]],
) -> TransformerBounds:
    """Propagate the residuals of all matched products and all rounding through both networks.

    Normalised tokens have norm at most ``sqrt(D)`` and lie in 1^perp; a normalisation takes two tokens apart by at most
    ``1 / sqrt(eps)`` times their distance, which is what makes bounds of deep networks with normalisations large.
    Attention as in :func:`.bound_transformer`, without the parts of a score that all keys share.

    Args:
        model: adapted, merged, of the target's form.
        target: of the same depth and width.
        radius: largest norm of an input token.
        frames: for each block B with ``adapted token = B target token`` after it; identities but for networks
            without skips and normalisations.

    Source: new; Zeng & Lee 2024 leave transformer errors open. Cost O(depth heads width^3).
    """
    eye = torch.eye(model.embed_dim, dtype=torch.float64, device=model.output.weight.device)
    zero = eye[0] * 0
    tokens = _Tokens(_Side(eye, zero, radius), _Side(eye, zero, radius), 0.0, same=True)
    coupled = model.norm_place is None and not model.residual
    residual, scores = 0.0, []
    for index, (block, goal) in enumerate(zip(model.layers, target.layers, strict=True)):
        if coupled:
            last = index == model.depth - 1
            tokens, steps = _coupled_block(block, goal, tokens, None if last else frames[index])
        else:
            tokens, steps = _streamed_block(block, goal, tokens)
        residual = max(residual, *(step.residual for step in steps))
        scores.append(steps[0].score_error)
    if coupled:
        step = _coupled_output(model, target, tokens)
        return TransformerBounds(min(step.ours + step.goal, step.apart), max(residual, step.residual), tuple(scores))
    if model.norm is not None and target.norm is not None:
        tokens = _normed(
            model.norm, target.norm, _Step(tokens.ours.token, tokens.goal.token, tokens.drift), tokens.same
        )
    step = _output(model, target, tokens)
    return TransformerBounds(min(step.ours + step.goal, step.apart), max(residual, step.residual), tuple(scores))


def _streamed_block(block: Block, goal: Block, tokens: _Tokens) -> tuple[_Tokens, tuple[_Step, _Step]]:
    """Attention and feed-forward layer with skips and normalisations around them."""
    width = block.out.shape[1]
    like = block.out.detach().double()
    eye = torch.eye(width, dtype=like.dtype, device=like.device)
    seen = eye if block.norm_place is None else centred_basis(width, like).T
    zero = like.new_zeros(len(seen))
    send = _Send(seen, seen, zero, zero)
    steps = []
    for layer in ("attention", "ffn"):
        norm, norm_goal = getattr(block, f"norm_{layer}"), getattr(goal, f"norm_{layer}")
        sums = _Step(tokens.ours.token, tokens.goal.token, tokens.drift)
        inputs = _normed(norm, norm_goal, sums, tokens.same) if block.norm_place == "pre" else tokens
        step = (_attention if layer == "attention" else _feed_forward)(block, goal, inputs, send)
        steps.append(step)
        if block.residual:
            eps = _unit(block) + _unit(goal)
            rounding = eps * (sums.ours + sums.goal + step.ours + step.goal)
            sums = _Step(sums.ours + step.ours, sums.goal + step.goal, sums.apart + step.apart + rounding)
        else:
            sums = step
        zeros = eye[0] * 0
        tokens = (
            _normed(norm, norm_goal, sums, same=False)
            if block.norm_place == "post"
            else _Tokens(
                _Side(eye, zeros, sums.ours), _Side(eye, zeros, sums.goal), min(sums.ours + sums.goal, sums.apart)
            )
        )
    return tokens, (steps[0], steps[1])


def _normed(norm: nn.LayerNorm, goal: nn.LayerNorm, sums: _Step, same: bool) -> _Tokens:
    """Tokens after a normalisation: in coordinates of the centred subspace, of norm at most sqrt(D)."""
    gamma, beta, goal_gamma, goal_beta = (p.detach().double() for p in (norm.weight, norm.bias, goal.weight, goal.bias))
    width = len(gamma)
    basis, root = centred_basis(width, gamma), width**0.5
    floor = min(norm.eps, goal.eps) ** 0.5
    eps, goal_eps = torch.finfo(norm.weight.dtype).eps, torch.finfo(goal.weight.dtype).eps
    rounding = (width + 4) * root * (eps * sums.ours + goal_eps * sums.goal) / floor
    if norm.eps != goal.eps:
        apart = 2 * root
    elif same and norm.weight.dtype == goal.weight.dtype:
        apart = 0.0  # the same numbers go through the same operations
    else:
        apart = min(2 * root, sums.apart / floor + rounding)  # in this order, should the other overflow
    sides = []
    for scale, shift, size, unit in ((gamma, beta, sums.ours, eps), (goal_gamma, goal_beta, sums.goal, goal_eps)):
        stray = 2 * unit * (float(scale.abs().max()) * root + float(shift.norm()))
        sides.append(_Side(scale[:, None] * basis, shift, min(root, size / norm.eps**0.5, size / goal.eps**0.5), stray))
    return _Tokens(sides[0], sides[1], apart)


def _attention(block: Block, goal: Block, tokens: _Tokens, send: _Send) -> _Step:
    ours, theirs = _parts(block), _parts(goal)
    heads = len(theirs["query"])
    reach, apart = tokens.goal.reach, tokens.apart
    total, goal_total = ours["out_bias"], theirs["out_bias"]
    error = own = gain = residual = score_error = 0.0
    for head in range(len(ours["query"])):
        value = ours["out"][head] @ ours["value"][head]
        total = total + ours["out"][head] @ (ours["value"][head] @ tokens.ours.shift + ours["value_bias"][head])
        own += _norm(value @ tokens.ours.columns) * tokens.ours.reach
        error += _value_rounding(ours, head, send.ours, tokens.ours, block)
        error += _norm(send.ours @ value) * tokens.ours.stray
        seen = send.ours @ value @ tokens.ours.columns
        if head >= heads:  # a head the target lacks: it must contribute nothing
            error += _norm(seen) * tokens.ours.reach
            continue
        goal_value = theirs["out"][head] @ theirs["value"][head]
        shift = theirs["value"][head] @ tokens.goal.shift + theirs["value_bias"][head]
        goal_total = goal_total + theirs["out"][head] @ shift
        gain += _norm(goal_value @ tokens.goal.columns) * reach
        wanted = send.goal @ goal_value @ tokens.goal.columns
        score, relative = _score_error(block, goal, head, tokens)
        score_error = max(score_error, score)
        residual = max(residual, relative, _relative(seen - wanted, wanted))
        moved = min(2 * math.tanh(min(score, 50.0) / 2) + (TOKENS + 8) * (_unit(block) + _unit(goal)), 2.0)
        error += _norm(seen - wanted) * (reach + apart) + _norm(wanted) * (apart + reach * moved)
        error += _norm(send.goal @ goal_value) * tokens.goal.stray
        error += _value_rounding(theirs, head, send.goal, tokens.goal, goal)
    constant = send.ours @ total + send.offset
    goal_constant = send.goal @ goal_total + send.goal_offset
    error += float((constant - goal_constant).norm())
    ours_size, goal_size = own + float(total.norm()), gain + float(goal_total.norm())
    return _Step(ours_size, goal_size, error, residual, score_error)


def _score_error(block: Block, goal: Block, head: int, tokens: _Tokens) -> tuple[float, float]:
    """Bound on the change of a score, up to what all keys of a query share, and the product's relative residual."""
    ours, theirs = _parts(block), _parts(goal)
    reach, apart = tokens.goal.reach, tokens.apart
    key, goal_key = ours["key"][head] @ tokens.ours.columns, theirs["key"][head] @ tokens.goal.columns
    form = key.T @ ours["query"][head] @ tokens.ours.columns
    wanted = goal_key.T @ theirs["query"][head] @ tokens.goal.columns
    offset = key.T @ (ours["query"][head] @ tokens.ours.shift + ours["query_bias"][head])
    goal_offset = goal_key.T @ (theirs["query"][head] @ tokens.goal.shift + theirs["query_bias"][head])
    error = _norm(form - wanted) * (reach + apart) ** 2 + float((offset - goal_offset).norm()) * (reach + apart)
    error += (_norm(wanted) * (2 * reach + apart) + float(goal_offset.norm())) * apart
    for parts, side, layer in ((ours, tokens.ours, block), (theirs, tokens.goal, goal)):
        query, key = (
            _norm(parts[name][head]) * side.token + _bias_norm(parts, name, head) for name in ("query", "key")
        )
        loud = [
            _norm(parts[name][head].abs()) * side.token + _bias_norm(parts, name, head) for name in ("query", "key")
        ]
        inner, width = parts["query"].shape[-2:]
        error += _unit(layer) * ((width + 1) * (loud[0] * key + loud[1] * query) + (inner + 4) * query * key)
        error += (_norm(parts["query"][head]) * key + _norm(parts["key"][head]) * query) * side.stray
    return error, _relative(form - wanted, wanted)


def _feed_forward(block: Block, goal: Block, tokens: _Tokens, send: _Send) -> _Step:
    ours, theirs = _parts(block), _parts(goal)
    hidden = len(theirs["ffn_in"])
    first, wanted = ours["ffn_in"] @ tokens.ours.columns, theirs["ffn_in"] @ tokens.goal.columns
    shift = ours["ffn_in"] @ tokens.ours.shift + ours["ffn_in_bias"]
    goal_shift = theirs["ffn_in"] @ tokens.goal.shift + theirs["ffn_in_bias"]
    reach, apart = tokens.goal.reach, tokens.apart
    difference = first[:hidden] - wanted
    error = _norm(difference) * (reach + apart) + _norm(wanted) * apart + float((shift[:hidden] - goal_shift).norm())
    for parts, side, layer in ((ours, tokens.ours, block), (theirs, tokens.goal, goal)):
        size = _norm(parts["ffn_in"].abs()) * side.token + float(parts["ffn_in_bias"].norm())
        error += (parts["ffn_in"].shape[1] + 4) * _unit(layer) * size + _norm(parts["ffn_in"]) * side.stray
    step = _Step(
        _norm(first) * tokens.ours.reach + float(shift.norm()),
        _norm(wanted) * reach + float(goal_shift.norm()),
        error,
        _relative(difference, wanted),
    )
    return _second(block, goal, step, send)


def _second(block: Block, goal: Block, hidden: _Step, send: _Send) -> _Step:
    """``W_2 h + b_2`` for hidden values of bounded size and difference; those the target lacks are ours to bound."""
    ours, theirs = _parts(block), _parts(goal)
    units = theirs["ffn_out"].shape[1]
    wanted = send.goal @ theirs["ffn_out"]
    seen = send.ours @ ours["ffn_out"]
    difference = seen[:, :units] - wanted
    constant = send.ours @ ours["ffn_out_bias"] + send.offset - send.goal @ theirs["ffn_out_bias"] - send.goal_offset
    error = _norm(difference) * (hidden.goal + hidden.apart) + _norm(wanted) * hidden.apart + float(constant.norm())
    error += _norm(seen[:, units:]) * hidden.ours if seen.shape[1] > units else 0.0
    sizes = []
    for parts, size, matrix, layer in (
        (ours, hidden.ours, send.ours, block),
        (theirs, hidden.goal, send.goal, goal),
    ):
        loud = _norm(parts["ffn_out"].abs()) * size + float(parts["ffn_out_bias"].norm())
        error += (parts["ffn_out"].shape[1] + 4) * _unit(layer) * _norm(matrix.abs()) * loud
        sizes.append(_norm(parts["ffn_out"]) * size + float(parts["ffn_out_bias"].norm()))
    return _Step(sizes[0], sizes[1], error, max(hidden.residual, _relative(difference, wanted)), hidden.score_error)


def _coupled_block(
    block: Block, goal: Block, tokens: _Tokens, frame: Tensor | None
) -> tuple[_Tokens, tuple[_Step, _Step]]:
    """A block without skips: ``W_1`` is part of the values' products, and tokens agree up to ``frame`` after it.

    Without a frame (the last block) the tokens returned are hidden values.
    """
    ours, theirs = _parts(block), _parts(goal)
    units = len(theirs["ffn_in"])
    send = _Send(ours["ffn_in"][:units], theirs["ffn_in"], ours["ffn_in_bias"][:units], theirs["ffn_in_bias"])
    step = _attention(block, goal, tokens, send)
    sizes, rounding = [], 0.0
    for parts, size, layer in ((ours, step.ours, block), (theirs, step.goal, goal)):
        bias = float(parts["ffn_in_bias"].norm())
        rounding += (parts["ffn_in"].shape[1] + 4) * _unit(layer) * (_norm(parts["ffn_in"].abs()) * size + bias)
        sizes.append(_norm(parts["ffn_in"]) * size + bias)
    hidden = _Step(sizes[0], sizes[1], step.apart + rounding, step.residual, step.score_error)
    if frame is None:
        zero = ours["ffn_in_bias"].new_zeros(1)
        sides = [_Side(zero[:, None], zero, size) for size in sizes]
        return _Tokens(sides[0], sides[1], hidden.apart), (step, hidden)
    eye, zero = torch.eye(len(frame), dtype=frame.dtype, device=frame.device), frame.new_zeros(len(frame))
    back = torch.linalg.solve(frame, eye)
    found = _second(block, goal, hidden, _Send(back, eye, zero, zero))
    reach = found.goal
    apart = min(found.apart, _norm(back) * found.ours + reach)
    return _Tokens(_Side(frame, zero, reach + apart), _Side(eye, zero, reach), apart), (step, found)


def _coupled_output(model: TransformerNetwork, target: TransformerNetwork, hidden: _Tokens) -> _Step:
    """``W_o (W_2 h + b_2)`` of the last block."""
    final, wanted = model.output.weight.detach().double(), target.output.weight.detach().double()
    zero = final.new_zeros(len(final))
    step = _Step(hidden.ours.reach, hidden.goal.reach, hidden.apart)
    block, goal = model.layers[-1], target.layers[-1]
    found = _second(block, goal, step, _Send(final, wanted, zero, zero))
    rounding = (len(final) + 2) * (
        _unit(block) * _norm(final.abs()) * found.ours + _unit(goal) * _norm(wanted.abs()) * found.goal
    )
    ours, theirs = _parts(block), _parts(goal)
    sizes = [
        _norm(matrix @ parts["ffn_out"]) * size + float((matrix @ parts["ffn_out_bias"]).norm())
        for matrix, parts, size in ((final, ours, step.ours), (wanted, theirs, step.goal))
    ]
    return _Step(sizes[0] + rounding, sizes[1] + rounding, found.apart + rounding, found.residual)


def _output(model: TransformerNetwork, target: TransformerNetwork, tokens: _Tokens) -> _Step:
    final, wanted = model.output.weight.detach().double(), target.output.weight.detach().double()
    seen, goal = final @ tokens.ours.columns, wanted @ tokens.goal.columns
    shift, goal_shift = final @ tokens.ours.shift, wanted @ tokens.goal.shift
    reach, apart = tokens.goal.reach, tokens.apart
    error = _norm(seen - goal) * (reach + apart) + _norm(goal) * apart + float((shift - goal_shift).norm())
    rounding = 0.0
    for matrix, side, layer in ((final, tokens.ours, model.layers[0]), (wanted, tokens.goal, target.layers[0])):
        rounding += (len(matrix) + 2) * _unit(layer) * _norm(matrix.abs()) * side.token + _norm(matrix) * side.stray
    sizes = (_norm(seen) * tokens.ours.reach + float(shift.norm()), _norm(goal) * reach + float(goal_shift.norm()))
    return _Step(sizes[0] + rounding, sizes[1] + rounding, error + rounding, _relative(seen - goal, goal))


def _parts(block: Block) -> dict[str, Tensor]:
    """A block's parameters in float64, biases it lacks as zeros."""
    names = {"ffn_in": block.ffn_in.weight, "ffn_in_bias": block.ffn_in.bias}
    names |= {"ffn_out": block.ffn_out.weight, "ffn_out_bias": block.ffn_out.bias}
    names |= {name: getattr(block, name) for name in ("query", "key", "value", "out")}
    found = {name: value.detach().double() for name, value in names.items()}
    biases = ("query_bias", "key_bias", "value_bias", "out_bias")
    return found | {name: block_bias(block, name, found["query"]) for name in biases}


def _value_rounding(parts: dict[str, Tensor], head: int, send: Tensor, side: _Side, layer: Block) -> float:
    value = _norm(parts["value"][head].abs()) * side.token + float(parts["value_bias"][head].norm())
    terms = parts["value"].shape[-1] + parts["value"].shape[-2] + TOKENS + len(parts["value"]) + 8
    return terms * _unit(layer) * _norm(send.abs()) * _norm(parts["out"][head].abs()) * value


def _bias_norm(parts: dict[str, Tensor], name: str, head: int) -> float:
    return float(parts[f"{name}_bias"][head].norm())


def _unit(block: Block) -> float:
    """Largest relative error of one rounding; the 1 % stands for products of several."""
    return 1.01 * torch.finfo(block.query.dtype).eps / 2


def _relative(difference: Tensor, wanted: Tensor) -> float:
    return float(difference.norm() / wanted.norm()) if float(wanted.norm()) > 0 else 0.0


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2)) if matrix.numel() else 0.0
