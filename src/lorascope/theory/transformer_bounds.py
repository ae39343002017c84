"""The error of a transformer adapted with too small a rank, from the weights alone."""

import math

import torch
from torch import Tensor

from ..errors import AssumptionError, RankError, ShapeError, SpecError
from ..linalg import singular_value, tolerance
from ..models import Block, TransformerNetwork, check_paper_form

__all__ = ["transformer_bound"]


def transformer_bound(frozen: TransformerNetwork, target: TransformerNetwork, rank: int, radius: float) -> float:
    """``max_n ||f(X)_n - fbar(X)_n|| <= ||Wbar_o Wbar_2L|| eta_L + eps_o (h_L + eta_L)`` where all tokens are short.

    With ``M = Wbar_2 W_2^{-1}`` of the block before (``I`` for the first), ``A = Wbar_K^T Wbar_Q``, ``B = Wbar_1 Wbar_O
    Wbar_V``, ``eps_kq = sigma_{2R+1}(A - M^{-T} W_K^T W_Q M^{-1})``, ``eps_ov = sigma_{2R+1}(B - W_1 W_O W_V M^{-1})``,
    ``eps_o = sigma_{2R+1}(Wbar_o Wbar_2L - W_o W_2L)``; ``d = 0`` and ``r = radius`` before the first block::

        tau = eps_kq (r + d)^2 + ||A|| (2 r + d) d               change of a score
        pi  = 2 tanh(tau / 2)                                    of the softmax's weights, in the 1-norm; sharp
        eta = sum_h eps_ov (r + d) + ||B|| d + ||B|| r pi        of the values before and after the ReLU
        h   = sum_h ||B|| r + ||bbar_1||
        d  <- ||Wbar_2|| eta,    r <- ||Wbar_2|| h + ||bbar_2||

    Args:
        frozen: the network to adapt; ``W_Q, W_K, W_V, W_O, W_1, W_2, W_o`` non-singular.
        target: one of the same width, heads and depth; ``Wbar_2`` of all blocks but the last non-singular.
        rank: ``R``, of every adapter of ``W_Q, W_K, W_V, W_O``, of the last ``W_2`` and of ``W_o``.
        radius: largest Euclidean norm of an input token.

    Returns:
        A bound on the largest token's Euclidean error, for any number of tokens, of the network whose products are
        truncated in the target's coordinates as above. ``adapt`` first improves badly conditioned feed-forward
        matrices within the same rank, so that its own products may differ; its certificate counts those.

    Raises:
        ShapeError: networks of two sizes, or of another form than the paper's.
        RankError: a rank that is negative or no integer.
        SpecError: a radius that is negative or not finite.
        AssumptionError: a target's ``Wbar_2`` that is singular.

    Source: new; Zeng & Lee 2024 leave transformer errors below the threshold open. Cost O(L H D^3).

    >>> same = TransformerNetwork(4, 2, 2)
    >>> transformer_bound(same, same, 0, 1.0) < 1e-9
    True
    """
    _check(frozen, target, rank, radius)
    turn = torch.eye(frozen.embed_dim, dtype=torch.float64, device=frozen.output.weight.device)  # M^{-1}
    apart, size = 0.0, float(radius)
    eta = hidden = math.inf
    for index, (block, goal) in enumerate(zip(frozen.layers, target.layers, strict=True)):
        eta, hidden = _block(block, goal, turn, rank, size, apart)
        if index < frozen.depth - 1:
            mixed = _matrix(goal.ffn_out.weight)
            _check_regular(mixed, index)
            turn = torch.linalg.solve(mixed, _matrix(block.ffn_out.weight), left=False)
            apart, size = _norm(mixed) * eta, _norm(mixed) * hidden + _length(goal.ffn_out.bias)
    wanted, own = (_matrix(net.output.weight) @ _matrix(net.layers[-1].ffn_out.weight) for net in (target, frozen))
    return _norm(wanted) * eta + singular_value(wanted - own, 2 * rank + 1) * (hidden + eta)


def _block(block: Block, goal: Block, turn: Tensor, rank: int, size: float, apart: float) -> tuple[float, float]:
    """``eta`` and ``h`` of one block whose inputs have norm ``size`` and are ``apart``."""
    offset = _length(goal.ffn_in.bias)
    eta, hidden, adapted = 0.0, offset, offset
    for head in range(len(goal.query)):
        score = _matrix(goal.key[head]).T @ _matrix(goal.query[head])
        value = _matrix(goal.ffn_in.weight) @ _matrix(goal.out[head]) @ _matrix(goal.value[head])
        own_score = turn.T @ _matrix(block.key[head]).T @ _matrix(block.query[head]) @ turn
        own_value = _matrix(block.ffn_in.weight) @ _matrix(block.out[head]) @ _matrix(block.value[head]) @ turn
        miss_score = singular_value(score - own_score, 2 * rank + 1)
        miss_value = singular_value(value - own_value, 2 * rank + 1)
        gain = _norm(value)
        tau = miss_score * (size + apart) ** 2 + _norm(score) * (2 * size + apart) * apart
        eta += miss_value * (size + apart) + gain * apart + gain * size * 2 * math.tanh(min(tau, 50.0) / 2)
        hidden += gain * size
        adapted += (gain + miss_value) * (size + apart)
    return min(eta, hidden + adapted), hidden


def _check(frozen: TransformerNetwork, target: TransformerNetwork, rank: int, radius: float) -> None:
    check_paper_form("transformer_bound", frozen=frozen, target=target)
    sizes = [{name: tuple(value.shape) for name, value in net.named_parameters()} for net in (frozen, target)]
    if sizes[0] != sizes[1]:
        came = [f"depth {net.depth}, {net.num_heads} heads, width {net.embed_dim}" for net in (frozen, target)]
        raise ShapeError(f"the bound compares networks of one size, got frozen {came[0]} and target {came[1]}")
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 0:
        raise RankError(f"rank must be an integer of at least 0, got {rank!r}")
    if not (math.isfinite(radius) and radius >= 0):
        raise SpecError(f"radius must be finite and at least 0, got {radius}; it is the largest norm of an input token")


def _check_regular(mixed: Tensor, index: int) -> None:
    values = torch.linalg.svdvals(mixed)
    least = tolerance(len(mixed), float(values[0]))
    if float(values[-1]) <= least:
        quantity = f"the least singular value of the target's blocks.{index}.ffn_out.weight"
        raise AssumptionError("the transformer bound", quantity, float(values[-1]), least)


def _matrix(weight: Tensor) -> Tensor:
    return weight.detach().double()


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))


def _length(bias: Tensor) -> float:
    return float(bias.detach().double().norm())
