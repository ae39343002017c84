"""The table every method goes through: pairs of models small and tame enough that each is exact where ranks allow."""

from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch

import lorascope as ls
from lorascope import construct, tune
from lorascope.models import TransformerNetwork
from reference.cases import matrices, network, tensors

# one line a method; each is (frozen, target, rank=None, *, ranks, domain, ...) -> Adaptation
NAMED = {
    "adapt": partial(ls.adapt, seconds=0.3),
    "adapt, closed form": partial(ls.adapt, seconds=0),
    "refined": partial(construct.refined, profile="fast", seconds=0.3),
    "stable": construct.stable,
    "paper": construct.paper,
}
# two names of one function are tested once
METHODS = {
    name: method for name, method in NAMED.items() if method not in list(NAMED.values())[: list(NAMED).index(name)]
}
# gradient methods promise the same but exactness; a few steps, for the structure of what comes back
BRIEF = {"steps": 12, "batch": 16}
GRADIENT = {
    "lora": partial(tune.lora, **BRIEF),
    "lora biases fixed": partial(tune.lora, tune_bias=False, **BRIEF),
    "lora grid": partial(tune.lora, lr=[1e-2, 1e-3], weight_decay=[0.0, 1e-2], **BRIEF),
    "full": lambda frozen, target, _, **how: tune.full(frozen, target, **BRIEF, **how),
    "last layers": lambda frozen, target, _, **how: tune.last_layers(frozen, target, 1, **BRIEF, **how),
    "biases": lambda frozen, target, _, **how: tune.biases(frozen, target, **BRIEF, **how),
}
DTYPES = {"float64": torch.float64, "float32": torch.float32}
EXACT = {torch.float64: 1e-6, torch.float32: 1e-3}


def fnn(width, depth, target_depth, activation="relu", seed=0):
    rng = np.random.default_rng(seed)
    weights = matrices(rng, depth + target_depth, width)
    biases = [0.5 * rng.standard_normal(width) for _ in weights]
    return (
        network(weights[:depth], biases[:depth], activation),
        network(weights[depth:], biases[depth:], activation),
    )


def transformer(width, heads, depth, target_heads=None, seed=0):
    """Attention scores of size about 1 on the unit ball, everything else near the identity."""
    rng = np.random.default_rng(seed)
    pair = []
    for count in (heads, target_heads or heads):
        made = TransformerNetwork(width, count, depth, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.ndim == 1:
                    parameter.copy_(torch.from_numpy(0.2 * rng.standard_normal(width)))
                    continue
                draws = torch.stack(tensors(matrices(rng, count, width)))
                parameter.copy_(draws if parameter.ndim == 3 else draws[0])
        pair.append(made)
    return tuple(pair)


@dataclass(frozen=True)
class Pair:
    kind: str
    sizes: tuple
    tokens: int | None = None

    @property
    def width(self):
        return self.sizes[0]

    def build(self, dtype=torch.float64):
        """A fresh (frozen, target)."""
        if self.kind == "transformer":
            pair = transformer(*self.sizes)
        else:
            pair = fnn(*self.sizes, self.kind)
        return tuple(model.to(dtype) for model in pair)


PAIRS = {
    "relu": Pair("relu", (4, 2, 1)),
    "relu deep": Pair("relu", (3, 5, 2)),
    "relu width 1": Pair("relu", (1, 2, 1)),
    "relu one to one": Pair("relu", (3, 2, 2)),
    "identity": Pair("identity", (4, 2, 1)),
    "identity deep target": Pair("identity", (3, 3, 2)),
    "transformer": Pair("transformer", (4, 2, 1), 3),
    "transformer deep": Pair("transformer", (3, 2, 2), 2),
    "transformer width 1": Pair("transformer", (1, 1, 1), 2),
}


def domains(width):
    low = torch.linspace(-0.8, 0.3, width, dtype=torch.float64)
    return {"ball": ls.Ball(1.5), "box": ls.Box(low, low + torch.linspace(0.1, 1.0, width, dtype=torch.float64))}


def ranks_of(pair):
    """Ranks below, at and above the threshold, 0 included."""
    need = ls.rank_needed(*pair.build()).uniform
    return need, sorted({0, max(need - 1, 0), need, need + 1})


@cache
def adapted(method, name, rank, domain="ball", dtype="float64"):
    """(frozen, target, adaptation); ``rank`` a number, or "needed" for what ``rank_needed`` asks of each weight."""
    pair = PAIRS[name]
    frozen, target = pair.build(DTYPES[dtype])
    how = {"domain": domains(pair.width)[domain]}
    if rank == "needed":
        how["ranks"] = ls.rank_needed(frozen, target).per_parameter
    else:
        how["rank"] = rank
    return frozen, target, METHODS[method](frozen, target, **how)
