"""The normal equations of a low-rank adapted ReLU network, for Levenberg-Marquardt."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...shapes import Float
from .family import Family
from .point import Point, forward

__all__ = ["NetworkResiduals"]

# Samples at a time: the Jacobians of so many fit in the cache.
CHUNK = 500
# Below this loss the normal equations are formed in float64: float32 no longer resolves the residuals.
COARSE = 1e-6
# Singular values of a balanced factor are kept at least this large, or no step would ever wake its direction.
SPARE = 1e-6


@dataclass(frozen=True)
class _Layer:
    """One group: its factors, and what one sample's Jacobian is made of.

    The tangent of ``B A`` at balanced factors is ``B C N + D A`` with ``N`` an orthonormal basis of the null space of
    ``A``: moves of ``A`` within its row space are moves of ``B`` as well and left to it.
    """

    right: Tensor  # A, (rank, inp)
    left: Tensor  # B, (out, rank)
    null: Tensor  # N, (inp - rank, inp)

    @property
    def sizes(self) -> tuple[int, int]:
        """Unknowns of ``C`` (rank x null) and of ``D`` with the bias (out x (rank + 1))."""
        out, rank = self.left.shape
        return rank * len(self.null), out * (rank + 1)


class NetworkResiduals:
    """Mean square error of a family's networks on fixed samples, as a function of one member's factors and biases.

    Args:
        family: the frozen products.
        inputs: (samples, inp), float64.
        outputs: (samples, out), of the target.

    Source: Gauss-Newton with the Kronecker structure of layers: a sample's Jacobian in ``W_l`` is ``G_l`` (outputs
    by units) times the layer's input. Cost O(samples groups^2 width^2 (rank + 1)^2) a step, and O(unknowns^3).
    """

    def __init__(
        self, family: Family, inputs: Float[Tensor, "samples inp"], outputs: Float[Tensor, "samples out"]
    ) -> None:
        self.family, self.inputs, self.outputs = family, inputs, outputs

    @cached_property
    def _coarse(self) -> tuple[Tensor, Tensor]:
        return self.inputs.float(), self.outputs.float()

    @property
    def operations(self) -> float:
        """Floating-point operations of one step, roughly: the normal equations and three factorisations."""
        sizes = [(*weight.shape, rank) for weight, rank in zip(self.family.weights, self.family.ranks, strict=True)]
        outputs, total, unknowns = self.outputs.shape[1], 0.0, 0
        for index, (out, inp, rank) in enumerate(sizes):
            unknowns += rank * (inp - rank) + out * (rank + 1)
            for other_out, other_inp, other in sizes[index:]:
                total += 2 * outputs * (out + rank) * (other_out + other)
                total += (
                    2
                    * (rank * (inp - rank) + out * (rank + 1))
                    * (other * (other_inp - other) + other_out * (other + 1))
                )
        return len(self.inputs) * total + float(unknowns) ** 3

    def flat(self, point: Point) -> Float[Tensor, " n"]:
        return torch.cat([part.reshape(-1) for part in point.parts()])

    def point(self, flat: Float[Tensor, " n"]) -> Point:
        shapes = [(rank, weight.shape[1]) for weight, rank in zip(self.family.weights, self.family.ranks, strict=True)]
        shapes += [(weight.shape[0], rank) for weight, rank in zip(self.family.weights, self.family.ranks, strict=True)]
        shapes += [(weight.shape[0],) for weight in self.family.weights]
        parts = flat.split([int(torch.Size(shape).numel()) for shape in shapes])
        return Point.of([part.view(shape) for part, shape in zip(parts, shapes, strict=True)])

    def loss(self, point: Float[Tensor, " n"]) -> float:
        found = self.point(point)
        value = float((forward(found.weights(self.family), found.biases, self.inputs) - self.outputs).square().mean())
        return math.inf if math.isnan(value) else value

    def normalized(self, point: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Balanced factors: of one set of singular values, orthogonal columns and rows."""
        found = self.point(point)
        pairs = [_balanced(b, a) for b, a in zip(found.left, found.right, strict=True)]
        return self.flat(Point(tuple(a for _, a in pairs), tuple(b for b, _ in pairs), found.biases))

    def moved(self, point: Float[Tensor, " n"], step: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
        found, layers = self.point(point), self._layers(point)
        pieces = iter(step.split([size for layer in layers for size in layer.sizes]))
        right, left, biases = [], [], []
        for layer, bias in zip(layers, found.biases, strict=True):
            rank = len(layer.right)
            right.append(layer.right + next(pieces).view(rank, len(layer.null)) @ layer.null)
            outer = next(pieces).view(len(layer.left), rank + 1)
            left.append(layer.left + outer[:, :rank])
            biases.append(bias + outer[:, rank])
        return self.flat(Point(tuple(right), tuple(left), tuple(biases)))

    def normal_equations(self, point: Float[Tensor, " n"]) -> tuple[Float[Tensor, "m m"], Float[Tensor, " m"]]:
        found, layers = self.point(point), self._layers(point)
        weights, biases = found.weights(self.family), list(found.biases)
        inputs, outputs = self._coarse if self.loss(point) > COARSE else (self.inputs, self.outputs)
        weights, biases = [w.to(inputs) for w in weights], [b.to(inputs) for b in biases]
        layers = [_Layer(part.right.to(inputs), part.left.to(inputs), part.null.to(inputs)) for part in layers]
        offsets = [0]
        for layer in layers:
            offsets += [offsets[-1] + layer.sizes[0], offsets[-1] + sum(layer.sizes)]
        matrix = inputs.new_zeros(offsets[-1], offsets[-1])
        gradient = inputs.new_zeros(offsets[-1])
        for start in range(0, len(inputs), CHUNK):
            rows = slice(start, start + CHUNK)
            _accumulate(layers, weights, biases, inputs[rows], outputs[rows], offsets, matrix, gradient)
        matrix = torch.triu(matrix) + torch.triu(matrix, 1).T
        count = self.outputs.numel()
        return matrix.double() / count, gradient.double() / count

    def _layers(self, point: Float[Tensor, " n"]) -> list[_Layer]:
        found = self.point(point)
        return [_Layer(a, b, _null_rows(a)) for a, b in zip(found.right, found.left, strict=True)]


def _accumulate(
    layers: list[_Layer],
    weights: list[Tensor],
    biases: list[Tensor],
    inputs: Tensor,
    outputs: Tensor,
    offsets: list[int],
    matrix: Tensor,
    gradient: Tensor,
) -> None:
    """Add one chunk's ``J^T J`` (its upper blocks) and ``J^T r``."""
    hidden, inner, active = inputs, [], []
    for layer, weight, bias in zip(layers, weights, biases, strict=True):
        ones = hidden.new_ones(len(hidden), 1)
        inner.append((hidden @ layer.null.T, torch.cat([hidden @ layer.right.T, ones], 1)))
        hidden = torch.relu(hidden @ weight.T + bias)
        active.append((hidden > 0).to(hidden))
    back = _jacobians(weights, active)  # n out units, each
    sides = [torch.cat([jacobian @ layer.left, jacobian], 2) for jacobian, layer in zip(back, layers, strict=True)]
    residual = (hidden - outputs)[:, None, :]
    for first, side in enumerate(sides):
        rank = layers[first].left.shape[1]
        cuts = (slice(0, rank), slice(rank, None))
        pulled = (residual @ side)[:, 0]  # n rank+units
        for part in (0, 1):
            rows = slice(offsets[2 * first + part], offsets[2 * first + part + 1])
            gradient[rows] += (pulled[:, cuts[part]].T @ inner[first][part]).reshape(-1)
        for second in range(first, len(layers)):
            kernel = torch.bmm(side.mT, sides[second])
            others = (slice(0, layers[second].left.shape[1]), slice(layers[second].left.shape[1], None))
            for part, other in ((0, 0), (0, 1), (1, 0), (1, 1)):
                rows = slice(offsets[2 * first + part], offsets[2 * first + part + 1])
                columns = slice(offsets[2 * second + other], offsets[2 * second + other + 1])
                if columns.start >= rows.start and rows.stop > rows.start and columns.stop > columns.start:
                    matrix[rows, columns] += _kronecker_sum(
                        kernel[:, cuts[part], others[other]], inner[first][part], inner[second][other]
                    )


def _jacobians(weights: list[Tensor], active: list[Tensor]) -> list[Tensor]:
    """Of the outputs in every layer's values before its ReLU: (samples, out, units) each."""
    found = [torch.diag_embed(active[-1])]
    for weight, on in zip(reversed(weights[1:]), reversed(active[:-1]), strict=True):
        found.append((found[-1] @ weight) * on[:, None, :])
    return found[::-1]


def _kronecker_sum(kernel: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """``sum_n kernel_n (a, b) first_n (c) second_n (d)`` as a matrix (a c, b d)."""
    samples, rows, columns = kernel.shape
    outer = (first[:, :, None] * second[:, None, :]).reshape(samples, -1)
    found = kernel.reshape(samples, -1).T @ outer
    shaped = found.view(rows, columns, first.shape[1], second.shape[1]).permute(0, 2, 1, 3)
    return shaped.reshape(rows * first.shape[1], columns * second.shape[1])


def _balanced(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    if right.shape[0] == 0:
        return left, right
    left_basis, left_core = torch.linalg.qr(left)
    right_basis, right_core = torch.linalg.qr(right.T)
    inner_left, values, inner_right = torch.linalg.svd(left_core @ right_core.T)
    root = values.clamp(min=SPARE).sqrt()
    return left_basis @ (inner_left * root), (root[:, None] * inner_right) @ right_basis.T


def _null_rows(right: Tensor) -> Tensor:
    """Orthonormal rows that span what the rows of ``right``, orthogonal and none zero, leave."""
    return torch.linalg.qr(right.T, mode="complete").Q[:, len(right) :].T
