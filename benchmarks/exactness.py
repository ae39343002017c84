"""Exactness at the threshold: this construction beside the paper's split, on the same networks, in the same run.

    python benchmarks/exactness.py [--seeds N] [--widths 8 16 32 64] [--ratios 2 4] [--dtype float64|float32]

Prints one row a setting: worst relative output error over the seeds on N(0, I) inputs and on inputs five times as
large, largest spectral norm of an update, seconds of one adaptation (one thread), seeds that miss 1e-9.
"""

import argparse
import math

import torch

import lorascope as ls
from lorascope import construct
from lorascope.models import FNN


def measure(adaptation: ls.Adaptation, target: FNN, inputs: torch.Tensor) -> float:
    """Relative Frobenius error of the outputs."""
    with torch.no_grad():
        wanted = target(inputs)
        return float((adaptation.model(inputs) - wanted).norm() / wanted.norm())


def setting(width: int, target_depth: int, ratio: int, seeds: int, dtype: torch.dtype, method: str) -> str:
    """One row: all seeds of one width, target depth and depth ratio."""
    near, far, norms, seconds, bounds = [], [], [], [], []
    radius = (12 if dtype == torch.float64 else 3) * math.sqrt(width)
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        frozen = FNN(width, target_depth * ratio, generator=generator, dtype=dtype)
        target = FNN(width, target_depth, generator=generator, dtype=dtype)
        inputs = torch.randn(5000, width, generator=generator, dtype=dtype)
        build = construct.stable if method == "stable" else construct.paper
        adaptation = build(frozen, target, rank=-(-width // ratio), domain=ls.Ball(radius))
        near.append(measure(adaptation, target, inputs))
        far.append(measure(adaptation, target, 5 * inputs))
        norms.append(max(float(torch.linalg.matrix_norm(a.delta.double(), 2)) for a in adaptation.adapters.values()))
        bounds.append(adaptation.certificate.error_bound)
        seconds.append(adaptation.seconds)
    missed = sum(not max(pair) <= 1e-9 for pair in zip(near, far, strict=True))
    return (
        f"{method:7} {width:5} {target_depth:6} {ratio:3}   {max(near):8.1e} {max(far):8.1e} {max(norms):9.3g} "
        f"{max(bounds):9.1e} {max(seconds):8.2f} {missed:6}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2], help="of the target")
    parser.add_argument("--ratios", type=int, nargs="+", default=[2, 4], help="frozen depth / target depth")
    parser.add_argument("--dtype", choices=["float64", "float32"], default="float64")
    parser.add_argument("--methods", nargs="+", default=["stable", "paper"])
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print("method  width target   M   error    error 5x  norm      bound     seconds  > 1e-9")
    for ratio in chosen.ratios:
        for width in chosen.widths:
            for depth in chosen.depths:
                for method in chosen.methods:
                    print(setting(width, depth, ratio, chosen.seeds, getattr(torch, chosen.dtype), method), flush=True)


if __name__ == "__main__":
    main()
