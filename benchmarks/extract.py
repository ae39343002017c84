"""Leading singular triples against torch.linalg.svd, on the same matrix in the same run.

    python benchmarks/extract.py                    # 4096 x 4096, rank 64, one thread: a few minutes
    python benchmarks/extract.py --size 2048 --rank 16

Spectra: `root` falls as 1/sqrt(i), `power` as 1/i, `square` as 1/i^2, `decay` as exp(-i / 100); `step` has 40 equal
values above a slow tail, `clusters` 16 equal values at a time; `bf16` is a matrix of rank 16 under rounding noise,
`flat` has no structure at all. `excess` is the error's excess over the least one, in percent; `residual` is what the
function says of its error, over the error, less one.
"""

import argparse
import time

import torch

from lorascope.linalg import leading

SPECTRA = ["root", "power", "square", "decay", "step", "clusters", "bf16", "flat"]


def matrix(spectrum, size, generator):
    if spectrum == "flat":
        return torch.randn(size, size, generator=generator)
    if spectrum == "bf16":
        low = torch.randn(size, 16, generator=generator) @ torch.randn(16, size, generator=generator)
        return low + torch.randn(size, size, generator=generator)
    bases = [torch.linalg.qr(torch.randn(size, size, generator=generator))[0] for _ in range(2)]
    place = torch.arange(1, size + 1, dtype=torch.float32)
    values = {
        "root": place**-0.5,
        "power": 1 / place,
        "square": place**-2,
        "decay": torch.exp(-place / 100),
        "step": (place <= 40) + 0.05 * place**-0.5,
        "clusters": 0.9 ** ((place - 1) // 16) + 1e-3,
    }
    return (bases[0] * values[spectrum]) @ bases[1]


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
    parser.add_argument("--repeats", type=int, default=3, help="of the fast way; the best counts")
    parser.add_argument("--spectra", nargs="+", default=SPECTRA, choices=SPECTRA)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print("spectrum   svd, s  leading, s   ratio  excess, %  residual  blocks")
    for spectrum in chosen.spectra:
        print(row(spectrum, chosen.size, chosen.rank, chosen.repeats), flush=True)


if __name__ == "__main__":
    main()
