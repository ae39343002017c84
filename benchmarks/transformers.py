"""Transformers at rank ceil(D/2): this construction beside the paper's, on the same networks, in the same run.

    python benchmarks/transformers.py [--seeds N] [--widths 8 16 32] [--heads 2 4] [--depths 1 2 4] [--seconds S]

Prints the worst relative output error over the seeds on N(0, 1) tokens and on tokens five times as large, the largest
spectral norm of an update, and seconds of one adaptation (one thread).
"""

import argparse
import math

import torch

import lorascope as ls
from lorascope import construct
from lorascope.models import TransformerNetwork


def setting(width: int, heads: int, depth: int, seeds: int, method: str, seconds: float) -> str:
    """One row: all seeds of one width, head count and depth."""
    near, far, norms, times = [], [], [], []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        frozen, target = (TransformerNetwork(width, heads, depth, generator=generator) for _ in range(2))
        tokens = torch.randn(200, 10, width, generator=generator, dtype=torch.float64)
        domain = ls.Ball(12 * math.sqrt(width))
        if method == "paper":
            found = construct.paper(frozen, target, -(-width // 2), domain=domain)
        else:
            found = construct.stable(frozen, target, -(-width // 2), domain=domain, seconds=seconds)
        with torch.no_grad():
            for scale, errors in ((1, near), (5, far)):
                wanted = target(scale * tokens)
                errors.append(float((found.model(scale * tokens) - wanted).norm() / wanted.norm()))
        norms.append(max(float(torch.linalg.matrix_norm(a.delta, 2).max()) for a in found.adapters.values()))
        times.append(found.seconds)
    return (
        f"{method:7} {width:5} {heads:5} {depth:5}   {max(near):8.1e} {max(far):8.1e} {max(norms):9.3g} "
        f"{max(times):8.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--heads", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--methods", nargs="+", default=["stable", "paper"])
    parser.add_argument("--seconds", type=float, default=30)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print("method  width heads depth   error    error 5x  norm     seconds")
    for width in chosen.widths:
        for heads in chosen.heads:
            for depth in chosen.depths:
                for method in chosen.methods:
                    print(setting(width, heads, depth, chosen.seeds, method, chosen.seconds), flush=True)


if __name__ == "__main__":
    main()
