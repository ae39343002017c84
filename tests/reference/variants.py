"""Pairs of transformers of every form, by name, and products of narrow factors: cases for all tests of them."""

import torch

from lorascope.models import TransformerNetwork
from lorascope.theory import NarrowMatch

FORMS = {
    "residual": {"residual": True},
    "residual, biases": {"residual": True, "attention_bias": True},
    "pre": {"residual": True, "norm": "pre"},
    "pre, biases": {"residual": True, "norm": "pre", "attention_bias": True},
    "post": {"residual": True, "norm": "post"},
    "post, biases": {"residual": True, "norm": "post", "attention_bias": True},
    "norms without skips": {"norm": "pre", "attention_bias": True},
    "post without skips": {"norm": "post"},
    "biases": {"attention_bias": True},
    "narrow heads": {"head_dim": 4},
    "narrower heads": {"head_dim": 2},
    "wide hidden": {"ffn_dim": 8},
    "wider hidden": {"ffn_dim": 14},
    "few hidden": {"ffn_dim": 3},
    "narrow, wide, biases": {"head_dim": 4, "ffn_dim": 8, "attention_bias": True},
    "residual, narrow and wide": {"residual": True, "head_dim": 4, "ffn_dim": 12},
    "usual pre": {"residual": True, "norm": "pre", "attention_bias": True, "head_dim": 3, "ffn_dim": 12},
    "usual post": {"residual": True, "norm": "post", "attention_bias": True, "head_dim": 4, "ffn_dim": 12},
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def moved(network, generator, size=0.4):
    """Normalisations off the identity, in place."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name:
                start = 1.0 if name.endswith("weight") else 0.0
                draw = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(start + size * (2 * draw - 1))
    return network


def pair(seed, width, heads, depth, **form):
    """Random (frozen, target) of one form, with normalisations off the identity."""
    generator = seeded(seed)
    return [moved(TransformerNetwork(width, heads, depth, generator=generator, **form), generator) for _ in range(2)]


def tokens(seed, width, count=12, length=5):
    return torch.randn(count, length, width, generator=seeded(seed), dtype=torch.float64)


def relative_error(model, target, inputs):
    with torch.no_grad():
        wanted = target(inputs)
        return float((model(inputs) - wanted).norm() / wanted.norm())


def narrow(seed, inner, out, inp, goal=None, ends=None):
    """A generic product of inner dimension ``inner`` seen from (m, k) = ``ends`` dimensions."""
    generator = seeded(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    goal = inner if goal is None else goal
    m, k = (out, inp) if ends is None else ends
    left = torch.linalg.qr(draw(out, m)).Q.T
    right = torch.linalg.qr(draw(inp, k)).Q
    return NarrowMatch(
        ("first", "second"), draw(inner, inp), draw(out, inner), left, right, draw(goal, k), draw(m, goal)
    )
