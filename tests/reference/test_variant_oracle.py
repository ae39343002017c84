"""The loops of the forward pass reject a wrong answer, in every part of it."""

import numpy as np
import pytest
import torch

from reference import forward
from reference.variants import pair, tokens


def test_layer_norm_of_known_numbers():
    found = forward.layer_norm([1.0, 3.0], [2.0, 1.0], [0.0, 5.0], eps=0.0)
    np.testing.assert_allclose(found, [-2.0, 6.0])


def test_attention_to_one_token_is_that_tokens_value():
    state = {"query": np.ones((1, 1, 2)), "key": np.ones((1, 1, 2)), "value": np.ones((1, 1, 2))}
    state |= {"out": np.array([[[1.0], [2.0]]])}
    np.testing.assert_allclose(forward.attention(np.array([[3.0, 4.0]]), state, ""), [[7.0, 14.0]])


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_every_parameter_but_key_biases_moves_the_oracle(norm):
    model, _ = pair(0, 3, 2, 2, residual=True, norm=norm, attention_bias=True, head_dim=2, ffn_dim=12)
    inputs = tokens(1, 3, count=1)[0]
    wanted = model(inputs).detach().numpy()
    state = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    forward.assert_same(forward.usual_transformer(inputs.numpy(), state, 2, True, norm), wanted, 1e-12)
    for name, value in state.items():
        generator = torch.Generator().manual_seed(3)
        wrong = state | {name: value + torch.randn(value.shape, generator=generator).double().numpy()}
        found = forward.usual_transformer(inputs.numpy(), wrong, 2, True, norm)
        if name.endswith("key_bias"):  # shifts all scores of a query alike
            forward.assert_same(found, wanted, 1e-12)
            continue
        with pytest.raises(AssertionError, match="outputs differ"):
            forward.assert_same(found, wanted, 1e-9)
