"""The error of an adapted FNN for every input of a domain, group of layers by group of layers."""

from dataclasses import dataclass

from torch import Tensor

from ..models import FNN
from ..shapes import Float
from .domain import Domain
from .relaxation import Layer
from .rounding import affine_map
from .walk import affine_step, kept_step, set_out, totals

__all__ = ["FNNBounds", "Stage", "bound_fnn", "stages_of"]


@dataclass(frozen=True)
class Stage:
    """One target layer and the group of adapted layers that imitates it.

    Attributes:
        weights, biases: of the group, merged, in float64.
        goal: (out, inp) weight and
        shift: (out,) bias of the target's layer (of all its layers together, for identity networks).
    """

    weights: list[Float[Tensor, "_ _"]]
    biases: list[Float[Tensor, " _"]]
    goal: Float[Tensor, "out inp"]
    shift: Float[Tensor, " out"]


@dataclass(frozen=True)
class FNNBounds:
    """Bounds of an adapted network's error.

    Attributes:
        error: at least the supremum of the error's Euclidean norm over the domain.
        expected: at least its root mean square over the samples, hence its mean; None unless there are samples, all of
            them inside the domain.
        rounding: the part of ``error`` that is floating point alone.
        residual: largest relative Frobenius distance of a group's product from its goal (absolute, where that is zero).
        inactive: groups (from 0) in which some hidden ReLU may be inactive, so that they are no affine map: kept.
    """

    error: float
    expected: float | None
    rounding: float
    residual: float
    inactive: tuple[int, ...]


def bound_fnn(
    stages: list[Stage],
    domain: Domain,
    relu: bool,
    eps: float,
    target_eps: float,
    samples: Float[Tensor, "samples inp"] | None = None,
) -> FNNBounds:
    """Walk through both networks, group by group, and look at both as a whole on the way.

    ``e_i <= Lip(g_i) e_{i-1} + sup |g_i(z) - phi_i(z)| + rounding``, with ``g_i`` the group, ``phi_i`` the target's
    layer and z in the target's region, or ``|Wbar_i| e_{i-1}`` with z in the adapted one's; the smaller is taken, and
    what linear relaxation of both networks from the input on gives, where that is smaller still. A group whose hidden
    ReLUs are certainly active is an affine map ``M_i z + o_i``: then ``Lip(g_i) = |M_i|``, and the supremum is that of
    ``|(M_i - Wbar_i) z + d_i|``. Any other is relaxed as well. The result is never above the sum of what the layers'
    norms say of both outputs. Rounding is that of evaluating both networks in any order of summation, and of the
    bounds' own computation.

    The expected error is bounded by the same recursion for root mean squares over the samples: from second moments of
    activations where groups are affine, ``E |E_i z + d_i|^2``, so that it holds for every input distribution with these
    moments; and from the measured ``E |g_i(z) - phi_i(z)|^2`` where they are not, or, from the first such group on, the
    measured error of both networks so far. It speaks of these samples, not of the distribution they come from:
    see ``theory.population_bound``.

    Args:
        stages: first layer first.
        domain: of the inputs.
        relu: whether a ReLU follows every layer.
        eps, target_eps: of the dtypes that the adapted and the target network compute in.
        samples: inputs, for the expected error.

    Source: the sharp recursion behind Zeng & Lee 2024, Theorem 5; linear relaxation after Zhang et al. 2018 (CROWN)
    and Singh et al. 2018. Cost O(depth^2 width^3).
    """
    width, inputs = stages[0].weights[0].shape[1], stages[0].goal.shape[1]
    walk = set_out(domain, width, inputs, stages[0].goal, eps, target_eps, samples)
    inactive: list[int] = []
    residual = 0.0
    for index, stage in enumerate(stages):
        goal = Layer(stage.goal, stage.shift)
        group = affine_map(stage.weights, stage.biases, len(stage.shift), walk.own_region, relu, eps)
        if group.active:
            affine_step(walk, group, goal, relu)
        else:
            inactive.append(index)
            kept_step(walk, _layers(stage), [goal])
        size = float(stage.goal.norm())
        difference = group.matrix[: len(stage.shift), : stage.goal.shape[1]] - stage.goal
        residual = max(residual, float(difference.norm()) / (size if size > 0 else 1.0))
    goals = [Layer(stage.goal, stage.shift) for stage in stages]
    error, expected = totals(walk, [layer for stage in stages for layer in _layers(stage)], goals)
    return FNNBounds(error, expected, min(walk.rounding, error), residual, tuple(inactive))


def _layers(stage: Stage) -> list[Layer]:
    return [Layer(weight, bias) for weight, bias in zip(stage.weights, stage.biases, strict=True)]


def stages_of(
    model: FNN, partition: tuple[tuple[int, ...], ...], goals: list[Tensor], shifts: list[Tensor]
) -> list[Stage]:
    """The stages of a merged model."""
    layers = model.linears
    return [
        Stage(
            weights=[layers[index].weight.detach().double() for index in group],
            biases=[
                layers[index].weight.new_zeros(len(layers[index].weight)).double()
                if layers[index].bias is None
                else layers[index].bias.detach().double()
                for index in group
            ],
            goal=goal,
            shift=shift,
        )
        for group, goal, shift in zip(partition, goals, shifts, strict=True)
    ]
