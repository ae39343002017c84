import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorascope.errors import ShapeError
from lorascope.theory import stacked_rank


def closed_form(width, heads):
    """For heads that share the embedding between them, d = D / H."""
    return max(math.ceil(width * (1 - 1 / math.sqrt(2 * heads)) - 1e-12), min(width // heads, -(-width // 2)))


@given(st.integers(1, 12), st.integers(1, 12))
def test_heads_that_share_the_embedding(inner, heads):
    assert stacked_rank(inner * heads, heads, inner) == closed_form(inner * heads, heads)


@given(st.integers(1, 40), st.integers(1, 12))
def test_heads_as_wide_as_the_embedding(width, heads):
    assert stacked_rank(width, heads) == max(-(-width * heads // (heads + 2)), -(-width // 2))


@given(st.integers(1, 30), st.integers(1, 8), st.data())
def test_between_a_heads_own_rank_and_the_full_one_and_growing_with_heads(width, heads, data):
    inner = data.draw(st.integers(1, width))
    found = stacked_rank(width, heads, inner)
    assert min(inner, -(-width // 2)) <= found <= min(width, heads * inner)
    assert found <= stacked_rank(width, heads + 1, inner)
    assert stacked_rank(width, 1, inner) == min(inner, -(-width // 2))


@pytest.mark.parametrize("wrong", [(0, 1, 1), (2, 0, 1), (2, 1, 0), (2, 1, 3)])
def test_sizes_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ShapeError, match=", ".join(map(str, wrong))):
        stacked_rank(*wrong)
