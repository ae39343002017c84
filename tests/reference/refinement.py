"""Normal equations by automatic differentiation, and least squares of reduced rank, for refinements to be held to."""

import numpy as np
import torch

from lorascope.construct.refine.family import Family


def family_of(rng, sizes, ranks):
    """Consecutive layers of ``sizes[l]`` inputs and ``sizes[l + 1]`` outputs, each a group and a run of its own."""
    layers = range(len(ranks))
    weights = [
        torch.from_numpy(rng.standard_normal((sizes[layer + 1], sizes[layer])) / sizes[layer] ** 0.5)
        for layer in layers
    ]
    alone = tuple((layer,) for layer in layers)
    return Family(alone, alone, tuple(weights), tuple(ranks))


def outputs_of(family, parts, inputs):
    """ReLU layers ``P + B A`` and ``b``; ``parts`` all A, then all B, then all b."""
    depth = len(family.weights)
    for weight, a, b, bias in zip(
        family.weights, parts[:depth], parts[depth : 2 * depth], parts[2 * depth :], strict=True
    ):
        inputs = (inputs @ (weight + b @ a).T + bias).clamp(min=0)
    return inputs


def assert_normal_equations(matrix, gradient, problem, point, tolerance):
    """``J^T J`` and ``J^T r`` of the mean square, J the outputs' Jacobian in the coordinates of ``problem.moved``."""

    def residual(step):
        parts = problem.point(problem.moved(point, step)).parts()
        return (outputs_of(problem.family, parts, problem.inputs) - problem.outputs).reshape(-1)

    zero = torch.zeros(len(gradient), dtype=torch.float64)
    jacobian, value = torch.autograd.functional.jacobian(residual, zero), residual(zero)
    normal, pulled = jacobian.T @ jacobian / len(value), jacobian.T @ value / len(value)
    size, reach = float(normal.diagonal().sum()), float((jacobian.norm() * value.norm()) / len(value))
    off = float((matrix - normal).norm())
    assert off <= tolerance * (size + 1e-300), f"J^T J is {off} off, its trace is {size}"
    off = float((gradient - pulled).norm())
    assert off <= tolerance * (reach + 1e-300), f"J^T r is {off} off, |J| |r| is {reach}"


def least_square(wanted, inputs, rank, biases):
    """Least mean over the rows of ``|wanted - T x|^2`` (``- b`` with biases) over T of rank at most ``rank``."""
    if biases:
        wanted, inputs = wanted - wanted.mean(0), inputs - inputs.mean(0)
    left, values, _ = np.linalg.svd(inputs, full_matrices=False)
    basis = left[:, values > 1e-10 * values.max(initial=1e-300)]
    seen = basis.T @ wanted
    unseen = np.square(wanted).sum() - np.square(seen).sum()
    tail = np.linalg.svd(seen, compute_uv=False)[rank:]
    return (max(unseen, 0.0) + np.square(tail).sum()) / len(inputs)


def assert_least(found, wanted, inputs, rank, biases, tolerance=1e-8):
    """``found`` is that least mean square, neither more nor less."""
    least, size = least_square(wanted, inputs, rank, biases), np.square(wanted).sum() / len(wanted)
    assert abs(found - least) <= tolerance * (least + 1e-6 * size), f"mean square {found}, least {least}"
