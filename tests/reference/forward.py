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


def layer_norm(column, scale, shift, eps=1e-5):
    """One token: its entries centred, divided by their standard deviation, scaled and shifted."""
    mean = sum(column) / len(column)
    variance = sum((entry - mean) ** 2 for entry in column) / len(column)
    return np.array(
        [(x - mean) / (variance + eps) ** 0.5 * g + b for x, g, b in zip(column, scale, shift, strict=True)]
    )


def attention(tokens, state, prefix):
    """Token by token and head by head; ``tokens``: (seq, embed), ``state``: parameter name -> array."""
    heads, inner = state[prefix + "query"].shape[:2]
    zeros = np.zeros((heads, inner))
    biases = [state.get(prefix + name + "_bias", zeros) for name in ("query", "key", "value")]
    output = np.zeros_like(tokens) + state.get(prefix + "out_bias", 0.0)
    for head in range(heads):
        query, key, value = (
            [state[prefix + name][head] @ token + bias[head] for token in tokens]
            for name, bias in zip(("query", "key", "value"), biases, strict=True)
        )
        for here in range(len(tokens)):
            scores = np.array([query[here] @ other for other in key])
            powers = np.exp(scores - scores.max())
            mixed = sum(p * v for p, v in zip(powers / powers.sum(), value, strict=True))
            output[here] += state[prefix + "out"][head] @ mixed
    return output


def usual_transformer(tokens, state, depth, residual, norm):
    """Any form of transformer on tokens (seq, embed), from its parameters by name."""
    normed = lambda rows, name: np.array(  # noqa: E731
        [layer_norm(row, state[name + ".weight"], state[name + ".bias"]) for row in rows]
    )
    stream = tokens
    for index in range(depth):
        prefix = f"blocks.{index}."
        for layer in ("attention", "ffn"):
            inner = normed(stream, f"{prefix}norm_{layer}") if norm == "pre" else stream
            if layer == "attention":
                update = attention(inner, state, prefix)
            else:
                update = np.array(
                    [
                        state[prefix + "ffn_out.weight"]
                        @ np.maximum(state[prefix + "ffn_in.weight"] @ row + state[prefix + "ffn_in.bias"], 0)
                        + state[prefix + "ffn_out.bias"]
                        for row in inner
                    ]
                )
            stream = stream + update if residual else update
            stream = normed(stream, f"{prefix}norm_{layer}") if norm == "post" else stream
    stream = normed(stream, "norm") if norm == "pre" else stream
    return np.array([state["output.weight"] @ row for row in stream])


def assert_same(found, wanted, tolerance):
    off = np.abs(np.asarray(found) - wanted).max()
    assert off <= tolerance * (1 + np.abs(wanted).max()), f"outputs differ by {off}"
