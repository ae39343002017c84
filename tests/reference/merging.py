"""Can later layers tell apart what the first layer merges? By linear programs on a box, by a grid on a ball."""

import numpy as np
from scipy.optimize import linprog


def clearance_in_box(first, first_bias, wanted, wanted_bias, unit, output, low, high):
    """Largest ``t`` with ``w_k x + b_k <= -t`` and ``wbar_j x + bbar_j >= t`` for an ``x`` in the box."""
    rows = np.vstack([np.append(first[unit], 1.0), np.append(-wanted[output], 1.0)])
    limits = [-first_bias[unit], wanted_bias[output]]
    bounds = [*zip(low, high, strict=True), (None, None)]
    found = linprog([0.0] * len(low) + [-1.0], A_ub=rows, b_ub=limits, bounds=bounds)
    return -found.fun


def clearance_in_ball(first, first_bias, wanted, wanted_bias, unit, output, radius):
    """The same in a centred ball, over a polar grid of the plane the two normals span."""
    basis, _ = np.linalg.qr(np.stack([first[unit], wanted[output]], axis=1))
    angles, radii = np.meshgrid(np.linspace(0, 2 * np.pi, 361), np.linspace(0, radius, 41))
    plane = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=-1).reshape(-1, 2)[:, : basis.shape[1]]
    points = plane @ basis.T
    off, on = -(points @ first[unit] + first_bias[unit]), points @ wanted[output] + wanted_bias[output]
    return np.minimum(off, on).max()


def clearances(first, wanted, clearance):
    """Clearance of every pair (unit, output) whose target unit moves along the direction that the first layer hides."""
    inverse = np.linalg.inv(first)
    directions = inverse / np.linalg.norm(inverse, axis=0)
    speeds = np.abs(wanted @ directions)  # output, unit
    return [
        clearance(unit, output)
        for unit in range(len(first))
        for output in range(len(wanted))
        if speeds[output, unit] > 1e-6
    ]


def assert_witness(pair, first, first_bias, wanted, wanted_bias, inside):
    """The two points lie in the domain, the first layer merges them and the target does not."""
    assert all(inside(point) for point in pair), "a point outside the domain"
    hidden = [np.maximum(first @ point + first_bias, 0) for point in pair]
    outputs = [np.maximum(wanted @ point + wanted_bias, 0) for point in pair]
    merged = np.abs(hidden[0] - hidden[1]).max()
    apart = np.abs(outputs[0] - outputs[1]).max()
    scale = 1 + np.abs(first).sum() * max(np.abs(point).max() for point in pair)
    assert merged <= 1e-13 * scale, f"the first layer tells them apart by {merged}"
    assert apart > 1e3 * merged, f"the target tells them apart by {apart} only"
