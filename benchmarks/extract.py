"""Leading singular triples against torch.linalg.svd, on the same matrix in the same run.

    python benchmarks/extract.py                    # 4096 x 4096, rank 64, one thread: a few minutes
    python benchmarks/extract.py --size 2048 --rank 16

Spectra: `root` falls as 1/sqrt(i), `power` as 1/i, `bf16` is a matrix of rank 16 under rounding noise, `flat` has no
structure at all. `excess` is the error's excess over the least one, in percent.
"""

import argparse
import time

import torch

from lorascope.linalg import leading


def matrix(spectrum, size, generator):
    if spectrum == "flat":
        return torch.randn(size, size, generator=generator)
    if spectrum == "bf16":
        low = torch.randn(size, 16, generator=generator) @ torch.randn(16, size, generator=generator)
        return low + torch.randn(size, size, generator=generator)
    bases = [torch.linalg.qr(torch.randn(size, size, generator=generator))[0] for _ in range(2)]
    place = torch.arange(1, size + 1, dtype=torch.float32)
    return (bases[0] * place ** (-0.5 if spectrum == "root" else -1.0)) @ bases[1]


def row(spectrum, size, rank, repeats):
    generator = torch.Generator().manual_seed(0)
    given = matrix(spectrum, size, generator)
    start = time.perf_counter()
    values = torch.linalg.svd(given, full_matrices=False)[1]
    whole = time.perf_counter() - start
    least = float(values[rank:].double().norm())
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        found = leading(given, rank, generator)
        seconds.append(time.perf_counter() - start)
    error = float((given.double() - found.left.double() @ found.right.double()).norm())
    quick = min(seconds)
    return (
        f"{spectrum:8} {whole:8.2f} {quick:9.2f} {whole / quick:7.1f} {100 * (error / least - 1):9.4f} "
        f"{found.residual / error - 1:9.1e} {found.blocks:7}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2, help="of the fast way; the best counts")
    parser.add_argument("--spectra", nargs="+", default=["root", "power", "bf16", "flat"])
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print("spectrum   svd, s  leading, s   ratio  excess, %  residual  blocks")
    for spectrum in chosen.spectra:
        print(row(spectrum, chosen.size, chosen.rank, chosen.repeats), flush=True)


if __name__ == "__main__":
    main()
