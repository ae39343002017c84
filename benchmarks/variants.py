"""Transformers of every form: the rank they need, the error at it and one rank below, and what stacking heads costs.

    python benchmarks/variants.py [--seeds N] [--width 12] [--heads 3] [--depths 1 2] [--seconds S] [--no-stacked]

Frozen and target weights are random, normalisations off the identity. ``heads`` and ``rest`` are the ranks of
attention and of the other matrices; errors are relative, on N(0, 1) tokens, worst over the seeds, with those ranks and
with one less on the heads and on the rest; ``norm`` is the largest spectral norm of an update, seconds are those of one
adaptation on one thread. Then ``stacked``: one adapter for the matrices of all heads, at the rank counting gives (the
one below it, tried for ``--seconds``, comes last).
"""

import argparse

import torch

import lorascope as ls
from lorascope import construct
from lorascope.models import TransformerNetwork
from lorascope.theory import stacked_rank

HEADS = ("query", "key", "value", ".out")


def forms(width: int, heads: int) -> dict[str, dict]:
    """Name -> arguments of the network."""
    split, wide = max(width // heads, 1), 4 * width
    return {
        "paper": {},
        "biases": {"attention_bias": True},
        "narrow heads d=2D/3": {"head_dim": max(2 * width // 3, 1)},
        "narrow heads d=D/H": {"head_dim": split},
        "hidden 4D/3": {"ffn_dim": 4 * width // 3},
        "hidden 4D": {"ffn_dim": wide},
        "residual": {"residual": True},
        "residual, pre": {"residual": True, "norm": "pre"},
        "residual, post": {"residual": True, "norm": "post"},
        "GPT-like": {"residual": True, "norm": "pre", "attention_bias": True, "head_dim": split, "ffn_dim": wide},
        "BERT-like": {"residual": True, "norm": "post", "attention_bias": True, "head_dim": split, "ffn_dim": wide},
    }


def pair(seed: int, width: int, heads: int, depth: int, form: dict) -> list[TransformerNetwork]:
    generator = torch.Generator().manual_seed(seed)
    made = [TransformerNetwork(width, heads, depth, generator=generator, **form) for _ in range(2)]
    with torch.no_grad():
        for network in made:
            for name, parameter in network.named_parameters():
                if "norm" in name:
                    noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                    parameter.copy_(float(name.endswith("weight")) + 0.2 * noise)
    return made


def error(model: TransformerNetwork, target: TransformerNetwork) -> float:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(100, 10, target.embed_dim, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        return float((model(tokens) - target(tokens)).norm() / target(tokens).norm())


def setting(name: str, form: dict, width: int, heads: int, depth: int, seeds: int, seconds: float, shared: bool) -> str:
    """One row: all seeds of one form and depth."""
    at, less_heads, less_rest, norms, times, together, below = [], [], [], [], [], [], []
    for seed in range(seeds):
        frozen, target = pair(seed, width, heads, depth, form)
        need = ls.rank_needed(frozen, target)
        own = max(rank for key, rank in need.per_parameter.items() if key.endswith(HEADS))
        rest = max(rank for key, rank in need.per_parameter.items() if not key.endswith(HEADS))
        found = construct.stable(frozen, target, ranks=need.per_parameter, seconds=seconds)
        at.append(error(found.model, target))
        times.append(found.seconds)
        norms.append(max(float(torch.linalg.matrix_norm(a.delta, 2).max()) for a in found.adapters.values()))
        for errors, heads_less, rest_less in ((less_heads, 1, 0), (less_rest, 0, 1)):
            ranks = {
                key: min(rank, own - heads_less if key.endswith(HEADS) else rest - rest_less)
                for key, rank in need.per_parameter.items()
            }
            errors.append(error(construct.stable(frozen, target, ranks=ranks, seconds=0).model, target))
        if shared:
            seen = width - (form.get("norm") == "pre")
            count = stacked_rank(seen, heads, form.get("head_dim"))
            for errors, rank in ((together, count), (below, count - 1)):
                ranks = {key: rank if key.endswith(HEADS) else least for key, least in need.per_parameter.items()}
                errors.append(error(construct.stacked(frozen, target, ranks=ranks, seconds=seconds).model, target))
    row = (
        f"{name:20} {depth:5} {own:6} {rest:5} {max(at):9.1e} {min(less_heads):9.1e} {min(less_rest):9.1e} "
        f"{max(norms):9.3g} {max(times):8.2f}"
    )
    return f"{row} {count:8} {max(together):9.1e} {min(below):9.1e}" if shared else row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=int, default=12)
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--stacked", action=argparse.BooleanOptionalAction, default=True)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    head = "form                 depth  heads  rest     error   heads-1    rest-1      norm  seconds"
    print(head + "  stacked     error    rank-1" if chosen.stacked else head)
    for name, form in forms(chosen.width, chosen.heads).items():
        for depth in chosen.depths:
            arguments = (chosen.width, chosen.heads, depth, chosen.seeds, chosen.seconds, chosen.stacked)
            print(setting(name, form, *arguments), flush=True)


if __name__ == "__main__":
    main()
