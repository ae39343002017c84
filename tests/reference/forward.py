"""Forward passes as the paper writes them, with tokens as columns and explicit loops."""

import numpy as np


def fnn(point, weights, biases, activation="relu"):
    """One input vector through ``z_l = act(W_l z_{l-1} + b_l)``, entry by entry."""
    hidden = [float(entry) for entry in point]
    for weight, bias in zip(weights, biases, strict=True):
        sums = [sum(w * z for w, z in zip(row, hidden, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        hidden = [max(value, 0.0) for value in sums] if activation == "relu" else sums
    return np.array(hidden)


def softmax_columns(scores):
    result = np.empty_like(scores)
    for column in range(scores.shape[1]):
        powers = np.exp(scores[:, column] - scores[:, column].max())
        result[:, column] = powers / powers.sum()
    return result


def transformer(tokens, blocks, output):
    """``TFN(X)`` for X (embed, seq); ``blocks``: dicts Q, K, V, O (lists over heads), W1, b1, W2, b2."""
    state = tokens
    for block in blocks:
        attention = np.zeros_like(state)
        for q, k, v, o in zip(block["Q"], block["K"], block["V"], block["O"], strict=True):
            attention = attention + o @ v @ state @ softmax_columns(state.T @ k.T @ q @ state)
        hidden = np.maximum(block["W1"] @ attention + block["b1"][:, None], 0)
        state = block["W2"] @ hidden + block["b2"][:, None]
    return output @ state


def assert_same(found, wanted, tolerance):
    off = np.abs(np.asarray(found) - wanted).max()
    assert off <= tolerance * (1 + np.abs(wanted).max()), f"outputs differ by {off}"
