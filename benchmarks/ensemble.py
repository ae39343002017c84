"""Many LoRA runs at once, by each engine, against a plain PyTorch loop that does one run after the other.

    python benchmarks/ensemble.py [--steps 256] [--repeats 5] [--only fnn|transformer] [--depths 2 4]

192 runs: ranks 1 to 16 times 12 settings of learning rate and weight decay; width 16, batch 256, float32, one thread.
Prints microseconds a run and step, of CPU time, for the machine may be shared, and how many times less that is than the
plain loop's. The plain loop has its batches and targets ready, the ensemble draws its own; all keep the parameters of
the lowest validation loss where they validate. Setting up and certifying, once a run, is left out; the last column has
it, in milliseconds a run. Repeats alternate, so that other work on the machine hits all alike; the medians are printed.
"""

import argparse
import copy
import time
from itertools import product

import torch
from torch import nn

from lorascope import tune
from lorascope.models import FNN, TransformerNetwork

WIDTH, BATCH, TOKENS = 16, 256, 10
RATES, DECAYS, RANKS = (1e-2, 1e-3, 1e-4), (0.0, 1e-4, 1e-3, 1e-2), range(1, WIDTH + 1)
PLAIN_STEPS = 256  # of the plain loop, which has its batches in memory
MEMBERS = [tune.Member(rank, lr, decay) for rank, lr, decay in product(RANKS, RATES, DECAYS)]


class Factors(nn.Module):
    """``x -> x W^T + (x A^T) B^T``, the usual layer; with heads in front where the weight has them."""

    def __init__(self, weight, rank, generator):
        super().__init__()
        *heads, out, inp = weight.shape
        self.weight = weight.detach()
        self.A = nn.Parameter(0.25 * torch.randn(*heads, rank, inp, generator=generator))
        self.B = nn.Parameter(torch.zeros(*heads, out, rank))

    def forward(self, x):
        return x @ self.weight.mT + x @ self.A.mT @ self.B.mT


class PlainFNN(nn.Module):
    def __init__(self, frozen, rank):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layers = nn.ModuleList(Factors(layer.weight, rank, generator) for layer in frozen.linears)
        self.biases = nn.ParameterList(layer.bias.detach().clone() for layer in frozen.linears)

    def forward(self, x):
        for layer, bias in zip(self.layers, self.biases, strict=True):
            x = torch.relu(layer(x) + bias)
        return x


class PlainTransformer(nn.Module):
    def __init__(self, frozen, rank):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.blocks = nn.ModuleList()
        for index, block in enumerate(frozen.layers):
            names = ("query", "key", "value", "out")
            part = nn.ModuleDict({name: Factors(getattr(block, name), rank, generator) for name in names})
            part["ffn_in"] = copy.deepcopy(block.ffn_in)
            part["ffn_in"].weight.requires_grad_(False)
            last = index == frozen.depth - 1
            part["ffn_out"] = Factors(block.ffn_out.weight, rank, generator) if last else nn.Identity()
            self.blocks.append(part)
        self.frozen_ffn = [block.ffn_out.weight.detach() for block in frozen.layers]
        self.biases = nn.ParameterList(block.ffn_out.bias.detach().clone() for block in frozen.layers)
        self.output = Factors(frozen.output.weight, rank, generator)

    def forward(self, x):
        for part, weight, bias in zip(self.blocks, self.frozen_ffn, self.biases, strict=True):
            heads = x.unsqueeze(-3)
            attend = (part["query"](heads) @ part["key"](heads).mT).softmax(dim=-1)
            x = torch.relu(part["ffn_in"](part["out"](attend @ part["value"](heads)).sum(dim=-3)))
            x = (part["ffn_out"](x) if isinstance(part["ffn_out"], Factors) else x @ weight.T) + bias
        return self.output(x)


def plain(build, frozen, member, pairs, validation):
    """Microseconds a step of one run."""
    model = build(frozen, member.rank)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=member.lr, weight_decay=member.weight_decay)
    best, kept = float("inf"), []
    started = time.process_time()
    for x, y in pairs:
        loss = nn.functional.mse_loss(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if validation is not None:
            with torch.no_grad():
                value = nn.functional.mse_loss(model(validation[0]), validation[1]).item()
            if value < best:
                best, kept = value, [parameter.detach().clone() for parameter in trained]
    assert kept or validation is None
    return (time.process_time() - started) / len(pairs) * 1e6


def batched(frozen, target, members, steps, validate, engine):
    """Microseconds a run and step, and milliseconds a run for everything else."""
    marks = []  # when the first step begins, and when the last one is done

    def mark(share, _):
        marks.append((time.process_time(), share))

    started = time.process_time()
    generator = torch.Generator().manual_seed(1)
    tune.ensemble(
        frozen, target, members, steps, BATCH, generator, validate_every=int(validate), progress=mark, engine=engine
    )
    ended = time.process_time()
    (first, share), (last, _) = marks[0], marks[-1]
    seconds = (last - first) / (1 - share)
    return seconds / steps / len(members) * 1e6, (ended - started - seconds) / len(members) * 1e3


def row(name, build, frozen, target, members, steps, repeats):
    engines = ["torch"]
    if tune.engine_for(frozen).name == "compiled":
        engines.append("compiled")
    generator = torch.Generator().manual_seed(1)
    shape = (BATCH, WIDTH) if isinstance(frozen, FNN) else (BATCH, TOKENS, WIDTH)
    inputs = [torch.randn(shape, generator=generator) for _ in range(min(steps, PLAIN_STEPS) + 1)]
    with torch.no_grad():
        pairs = [(x, target(x)) for x in inputs]
    plain(build, frozen, members[0], pairs[:5], pairs[-1])
    for validate in (False, True):
        found = []
        for _ in range(repeats):
            some = members[:: max(1, len(members) // 4)][:4]
            alone = [plain(build, frozen, m, pairs[:-1], pairs[-1] if validate else None) for m in some]
            each = [batched(frozen, target, members, steps, validate, engine) for engine in engines]
            found.append((sum(alone) / len(alone), *(value for pair in each for value in pair)))
        alone, *rest = torch.tensor(found).median(dim=0).values.tolist()
        text = "every step" if validate else "at the end"
        for engine, together, setup in zip(engines, rest[::2], rest[1::2], strict=True):
            print(
                f"{name:15} {text:11} {alone:10.1f} {engine:9} {together:8.2f} {alone / together:7.1f} {setup:9.2f}",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=256, help="at least 64")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=["fnn", "transformer"])
    parser.add_argument("--depths", type=int, nargs="*", default=[2, 4], help="of the frozen FNNs; targets have half")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"compiled engine: {tune.engine_for(FNN(WIDTH, 1, dtype=torch.float32)).why}")
    print("network         validation  plain, us engine    us a run   times  ms a run")
    generator = torch.Generator().manual_seed(0)
    for depth in chosen.depths if chosen.only != "transformer" else ():
        frozen, target = (
            FNN(WIDTH, count, generator=generator, dtype=torch.float32) for count in (depth, max(1, depth // 2))
        )
        name = f"FNN {max(1, depth // 2)}/{depth}"
        row(name, PlainFNN, frozen, target, MEMBERS, chosen.steps, chosen.repeats)
    for depth in (1, 2) if chosen.only != "fnn" else ():
        frozen, target = (
            TransformerNetwork(WIDTH, 2, depth, generator=generator, dtype=torch.float32) for _ in range(2)
        )
        steps = max(64, chosen.steps // 4)
        row(f"transformer {depth}", PlainTransformer, frozen, target, MEMBERS, steps, chosen.repeats)


if __name__ == "__main__":
    main()
