from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorascope.linalg import norm_product, prefixes, product, suffixes
from reference.cases import seeds, tensors
from reference.networks import chain


@given(seeds, st.lists(st.integers(1, 12), min_size=2, max_size=6))
def test_products_of_rectangular_factors(seed, widths):
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((out, inp)) for inp, out in pairwise(widths)]
    np.testing.assert_allclose(product(tensors(weights)).numpy(), chain(weights), atol=1e-10)
    assert norm_product(tensors(weights)) == pytest.approx(np.prod([np.linalg.norm(weight, 2) for weight in weights]))


@given(seeds, st.integers(1, 12), st.integers(1, 5))
def test_every_prefix_and_suffix(seed, width, depth):
    weights = list(np.random.default_rng(seed).standard_normal((depth, width, width)))
    before, after = prefixes(torch.stack(tensors(weights))), suffixes(torch.stack(tensors(weights)))
    assert before.shape == after.shape == (depth + 1, width, width)
    for layer in range(depth + 1):
        np.testing.assert_allclose(before[layer], chain([np.eye(width), *weights[:layer]]), atol=1e-9)
        np.testing.assert_allclose(after[layer], chain([np.eye(width), *weights[layer:]]), atol=1e-9)
