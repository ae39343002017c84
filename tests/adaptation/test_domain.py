"""Regions hold what they claim to hold: no sample of a domain, mapped through layers, leaves its box or its ball."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lorascope as ls
from lorascope.adaptation import Region, region_of
from lorascope.errors import ShapeError
from reference.attack import inputs_of
from reference.cases import seeds

LIKE = torch.zeros(1, dtype=torch.float64)


def assert_inside(region, points, slack=1e-9):
    assert ((points >= region.low - slack) & (points <= region.high + slack)).all(), "a point leaves the box"
    distance = float((points - region.centre).norm(dim=1).max())
    assert distance <= region.radius + slack, f"a point is {distance} from the centre, the radius is {region.radius}"


cases = {
    "seed": seeds,
    "width": st.integers(1, 12),
    "kind": st.sampled_from(["ball", "box"]),
    "size": st.sampled_from([0.0, 0.1, 3.0]),
}


def domain_of(seed, width, kind, size):
    generator = torch.Generator().manual_seed(seed)
    if kind == "ball":
        return ls.Ball(size), generator
    low = torch.randn(width, generator=generator, dtype=torch.float64)
    return ls.Box(low, low + size * torch.rand(width, generator=generator, dtype=torch.float64)), generator


@given(**cases, widths=st.lists(st.integers(1, 12), max_size=3))
def test_no_sample_leaves_the_region_layer_after_layer(seed, width, kind, size, widths):
    domain, generator = domain_of(seed, width, kind, size)
    region, points = region_of(domain, width, width, LIKE), inputs_of(domain, width, 100, 1)
    assert_inside(region, points)
    for inp, out in zip([width, *widths], widths, strict=False):
        matrix = torch.randn(out, inp, generator=generator, dtype=torch.float64)
        offset = torch.randn(out, generator=generator, dtype=torch.float64)
        low, high = region.bounds(matrix)
        image = points @ matrix.T
        assert ((image >= low - 1e-9) & (image <= high + 1e-9)).all()
        assert float((image + offset).norm(dim=1).max()) <= region.largest_norm(matrix, offset) + 1e-9
        assert float(image.norm(dim=1).max()) <= region.largest_norm(matrix) + 1e-9
        assert (points.abs() <= region.largest_moduli() + 1e-9).all()
        region, points = region.affine(matrix, offset), image + offset
        assert_inside(region, points)
        region, points = region.relu(), points.clamp(min=0)
        assert_inside(region, points)


@given(**cases)
def test_bounds_of_a_domain_itself_are_attained(seed, width, kind, size):
    domain, generator = domain_of(seed, width, kind, size)
    region = region_of(domain, width, width, LIKE)
    matrix = torch.randn(3, width, generator=generator, dtype=torch.float64)
    low, high = region.bounds(matrix)
    for row, least, most in zip(matrix, low, high, strict=True):
        if isinstance(domain, ls.Ball):
            extreme = domain.radius * row / row.norm()
            ends = float(row @ -extreme), float(row @ extreme)
        else:
            ends = (
                float(row @ torch.where(row > 0, domain.low, domain.high)),
                float(row @ torch.where(row > 0, domain.high, domain.low)),
            )
        assert (float(least), float(most)) == pytest.approx(ends, abs=1e-12)


def test_the_inside_oracle_rejects_points_outside():
    region = Region(torch.zeros(2).double(), torch.ones(2).double(), torch.full((2,), 0.5).double(), 0.6)
    assert_inside(region, torch.tensor([[0.5, 1.0]]).double())
    with pytest.raises(AssertionError, match="leaves the box"):
        assert_inside(region, torch.tensor([[0.5, 1.01]]).double())
    with pytest.raises(AssertionError, match="from the centre"):
        assert_inside(region, torch.tensor([[1.0, 1.0]]).double())


def test_padding_holds_the_extra_coordinates_at_0():
    for domain in (ls.Ball(2.0), ls.Box([-1.0, 3.0], [1.0, 4.0]), ls.Box([-1.0, 3.0, 0, 0], [1.0, 4.0, 0, 0])):
        region = region_of(domain, 4, 2, LIKE)
        assert region.low[2:].tolist() == region.high[2:].tolist() == region.centre[2:].tolist() == [0.0, 0.0]
    assert region_of(ls.Box([-1.0, 3.0], [1.0, 4.0]), 4, 2, LIKE).radius == pytest.approx((1 + 0.25) ** 0.5)
    with pytest.raises(ShapeError, match=r"2 coordinates.*got 3"):
        region_of(ls.Box([0] * 3, [1] * 3), 4, 2, LIKE)


def test_box_keeps_its_bounds_in_float64():
    box = ls.Box([0, 1], torch.tensor([1, 2], dtype=torch.float32))
    assert box.low.dtype == box.high.dtype == torch.float64
    assert (box.low.tolist(), box.high.tolist()) == ([0.0, 1.0], [1.0, 2.0])


def test_boxes_are_equal_just_where_their_bounds_are():
    box = ls.Box([-1.0, 0.0], [1.0, 1.0])
    assert box == ls.Box(torch.tensor([-1.0, 0.0]), [1.0, 1.0])
    assert box != ls.Box([-2.0, 0.0], [1.0, 1.0])  # whose hash is the same: hash(-1.0) == hash(-2.0)
    assert box != ls.Ball(1.0)
