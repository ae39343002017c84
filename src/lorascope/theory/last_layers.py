"""Re-tuning only the later layers: inputs that the frozen first layer cannot tell apart."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..errors import ShapeError, SpecError
from ..linalg import tolerance
from ..shapes import Float

__all__ = ["constant_direction", "tuning_fails"]

STEPS = 60  # halvings of [0, 1], down to the last bits of the multiplier


def constant_direction(weight: Float[Tensor, "width width"], unit: int = 0) -> Float[Tensor, " width"]:
    """``v`` with ``||v|| = 1`` and ``w_k . v = 0`` for every ``k != unit``: where that unit is off, no layer sees it.

    Args:
        weight: ``W_1`` of the frozen network, one row ``w_k`` a unit.
        unit: the unit that is switched off, counted from 0.

    Returns:
        (width,), float64; the entry of largest modulus is positive.

    Raises:
        ShapeError: a weight that is not square, or a unit it does not have.

    Source: Zeng & Lee 2024, Lemma 4, where the unit is the first. Cost O(D^3).

    >>> [round(entry) for entry in constant_direction(torch.tensor([[1.0, 1.0], [0.0, 2.0]])).tolist()]
    [1, 0]
    """
    width = weight.shape[0]
    if weight.shape != (width, width) or not 0 <= unit < width:
        raise ShapeError(f"a square weight and one of its units, got shape {tuple(weight.shape)} and unit {unit}")
    others = torch.cat([weight[:unit], weight[unit + 1 :]]).detach().double()
    direction = torch.linalg.svd(others)[2][-1]
    return direction * direction[direction.abs().argmax()].sign()


def tuning_fails(
    weight: Float[Tensor, "width width"],
    bias: Float[Tensor, " width"],
    target_weight: Float[Tensor, "width width"],
    target_bias: Float[Tensor, " width"],
    *,
    centre: Float[Tensor, " width"],
    half_width: Float[Tensor, " width"],
    shape: Literal["box", "ball"],
) -> tuple[Float[Tensor, " width"], Float[Tensor, " width"]] | None:
    """``x, y`` with ``ReLU(W_1 x + b_1) = ReLU(W_1 y + b_1)`` but ``fbar(x) != fbar(y)``: later layers cannot help.

    They lie on a segment of the domain parallel to ``constant_direction(W_1, k)``, inside ``{w_k . x + b_k < 0}`` and
    ``{wbar_j . x + bbar_j > 0}``, for the units ``k`` and ``j`` that separate them most.

    Args:
        weight: ``W_1``, the frozen first layer, one row a unit.
        bias: ``b_1``.
        target_weight: ``Wbar`` of the target ``fbar(x) = ReLU(Wbar x + bbar)``.
        target_bias: ``bbar``.
        centre: of the domain.
        half_width: of the domain in each coordinate, in the unit of the inputs; a ball's radius, repeated.
        shape: ``"box"``, or ``"ball"`` (with unequal half-widths an ellipsoid).

    Returns:
        The two points, or ``None`` where there is no such segment. For a non-singular ``W_1`` there is then no
        pair at all that the first layer merges and the target separates; a singular one may have others.

    Raises:
        ShapeError: sizes that do not fit.
        SpecError: a half-width that is not positive (a domain without interior), or another shape.

    Source: Zeng & Lee 2024, Lemma 4, which says that random weights fail on all of R^D. On a bounded domain that
    is false when the first layer is active throughout, so this decides it. Cost O(D^3).

    >>> eye, zero = torch.eye(2), torch.zeros(2)
    >>> x, y = tuning_fails(eye, zero, -eye, zero, centre=zero, half_width=zero + 1, shape="box")
    >>> torch.relu(x).equal(torch.relu(y)), torch.relu(-x).equal(torch.relu(-y))
    (True, False)
    >>> tuning_fails(eye, zero + 1.5, -eye, zero, centre=zero, half_width=zero + 1, shape="box") is None
    True
    """
    width = len(bias)
    sizes = [tuple(t.shape) for t in (weight, target_weight, bias, target_bias, centre, half_width)]
    if sizes != [(width, width)] * 2 + [(width,)] * 4:
        raise ShapeError(f"two weights (D, D), two biases, centre and half_width (D,); got {sizes}")
    if shape not in ("box", "ball") or not bool((half_width > 0).all()):
        raise SpecError(f'shape "box" or "ball" with positive half-widths, got {shape!r}, {half_width.tolist()}')
    first, wanted = weight.detach().double(), target_weight.detach().double()
    middle, half = centre.detach().double(), half_width.detach().double()
    directions = torch.stack([constant_direction(first, unit) for unit in range(width)])
    # signed distances to both boundaries, positive on the wanted side:  off @ x + off_0,  on @ x + on_0
    off, off_0 = _unit_rows(-first, -bias.detach().double())
    on, on_0 = _unit_rows(wanted, target_bias.detach().double())
    points, radius = _roomiest(off, off_0, on, on_0, middle, half, shape)
    apart = 2 * radius * (directions @ wanted.mT).abs()  # k j: by how much the target's unit j then differs
    unit, output = divmod(int(apart.argmax()), width)
    reach = float(torch.linalg.vector_norm(middle) + torch.linalg.vector_norm(half))
    if not apart[unit, output] > tolerance(width, float(torch.linalg.vector_norm(wanted)) * reach):
        return None
    step = radius[unit, output] * directions[unit]
    return points[unit, output] - step, points[unit, output] + step


def _roomiest(
    off: Tensor, off_0: Tensor, on: Tensor, on_0: Tensor, middle: Tensor, half: Tensor, shape: str
) -> tuple[Float[Tensor, "width width width"], Float[Tensor, "width width"]]:
    # for each pair k, j a point inside the domain, off_k > 0 and on_j > 0, and the radius of a ball about it that
    # stays there; radius 0 where there is none
    def depth(points: Tensor) -> Tensor:
        return torch.minimum(
            torch.einsum("kd,kjd->kj", off, points) + off_0[:, None], torch.einsum("jd,kjd->kj", on, points) + on_0
        )

    points = _deepest(off, off_0, on, on_0, lambda normals: middle + _support(normals, half, shape))
    reach = float(torch.linalg.vector_norm(middle) + torch.linalg.vector_norm(half))
    level = tolerance(len(off), reach + float(off_0.abs().max()) + float(on_0.abs().max()))
    deep = torch.where(depth(points) > level, depth(points), 0.0)
    # depth is concave: a step of this share towards the middle costs at most half of it
    share = deep / (2 * torch.maximum(deep - depth(middle.expand_as(points)), deep)).clamp(min=level)
    points = points + share[..., None] * (middle - points)
    return points, torch.minimum(depth(points).clamp(min=0), share * half.min()) / 2


def _deepest(
    off: Tensor, off_0: Tensor, on: Tensor, on_0: Tensor, furthest: Callable[[Tensor], Tensor]
) -> Float[Tensor, "width width width"]:
    # for each pair k, j the point of the domain with the largest min(off_k(x), on_j(x)): minimise over t in [0, 1] the
    # domain's maximum of (1 - t) off_k + t on_j, whose slope in t is on_j - off_k there; then meet between both ends
    def slope(points: Tensor) -> Tensor:
        return torch.einsum("jd,kjd->kj", on, points) + on_0 - torch.einsum("kd,kjd->kj", off, points) - off_0[:, None]

    low = torch.zeros(len(off), len(on), dtype=off.dtype, device=off.device)
    high = torch.ones_like(low)
    ends = [furthest((1 - t)[..., None] * off[:, None] + t[..., None] * on) for t in (low, high)]
    for _ in range(STEPS):
        t = (low + high) / 2
        found = furthest((1 - t)[..., None] * off[:, None] + t[..., None] * on)
        rising = slope(found) > 0
        low, high = torch.where(rising, low, t), torch.where(rising, t, high)
        ends = [torch.where(rising[..., None], ends[0], found), torch.where(rising[..., None], found, ends[1])]
    below, above = slope(ends[0]), slope(ends[1])
    share = (-below / (above - below)).nan_to_num().clamp(0, 1)  # k j: 0 keeps the lower end, 1 the upper
    return ends[0] + share[..., None] * (ends[1] - ends[0])


def _support(normals: Tensor, half: Tensor, shape: str) -> Tensor:
    # the point of the centred domain furthest along each normal
    if shape == "box":
        return normals.sign() * half
    scaled = normals * half
    return (
        scaled * half / torch.linalg.vector_norm(scaled, dim=-1, keepdim=True).clamp(min=torch.finfo(half.dtype).tiny)
    )


def _unit_rows(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    norms = torch.linalg.vector_norm(weight, dim=1)
    norms = torch.where(norms > 0, norms, 1.0)
    return weight / norms[:, None], bias / norms
