"""Cost of a two-factor product against its width: the Schur construction alone, and one whole adaptation.

    python benchmarks/two_factors.py [--widths 64 128 256 512 1024 2048] [--threads 2] [--device cpu|cuda]

Prints seconds, the ratio to one matrix product of that width measured in the same run, and the residual.
"""

import argparse
import time

import torch

import lorascope as ls
from lorascope.construct.schur import schur
from lorascope.linalg import truncate
from lorascope.models import FNN


def seconds_of(work: object) -> float:
    """Median of three runs of a callable, after one to warm up for short ones."""
    assert callable(work)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
        if times[-1] > 20:
            break
    return sorted(times)[len(times) // 2]


def row(width: int, device: str, whole: bool) -> str:
    generator = torch.Generator().manual_seed(width)
    frozen, target = FNN(width, 2, generator=generator).to(device), FNN(width, 1, generator=generator).to(device)
    weights = torch.stack([layer.weight.detach() for layer in frozen.linears])
    goal = target.linears[0].weight.detach()
    outputs, inputs = truncate(goal - weights[1] @ weights[0], width)
    parts = (width // 2, width - width // 2)
    plain = seconds_of(lambda: weights[0] @ weights[1])
    alone = seconds_of(lambda: schur(weights, outputs, inputs, parts))
    factors = schur(weights, outputs, inputs, parts)
    first, second = factors.adapted(weights)
    residual = float((second @ first - goal).norm() / goal.norm())
    text = f"{width:5} {alone:9.3f} {alone / plain:9.0f} {residual:9.1e} {factors.norm():9.3g}"
    if whole:
        adaptation = ls.adapt(frozen, target, rank=parts[1], domain=ls.Ball(12 * width**0.5))
        x = torch.randn(1000, width, generator=generator, dtype=torch.float64).to(device)
        with torch.no_grad():
            error = float((adaptation.model(x) - target(x)).norm() / target(x).norm())
        text += f" {adaptation.seconds:9.1f} {error:9.1e}  {adaptation.method}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512, 1024, 2048])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--schur-only", action="store_true", help="leave out the whole adaptation")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print("width  schur, s  / product  residual      norm   adapt, s     error  method")
    for width in chosen.widths:
        print(row(width, chosen.device, not chosen.schur_only), flush=True)


if __name__ == "__main__":
    main()
