"""How loose every bound is: bound divided by the error measured in the same run, over ranks and seeds.

    python benchmarks/bounds.py [--seeds N] [--width D]

Prints one row a number and kind of network: median, smallest and largest ratio, and how well the number orders the
cases (Spearman's correlation with the measured error, 1 is perfect). Means are over 4096 fresh N(0, I) inputs (512
sequences of 10 tokens), suprema the worst input found by projected gradient ascent in the certificate's domain.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Callable

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from lorascope import construct
from lorascope.adaptation import Ball, bound_networks, bound_on_samples
from lorascope.linalg import product
from lorascope.models import FNN, TransformerNetwork
from lorascope.theory import (
    activation_moments,
    moment_bound,
    population_bound,
    sharp_bound,
    theorem5_bound,
    transformer_bound,
    uniform_partition,
)

Rows = dict[tuple[str, str], list[tuple[float, float]]]  # (network, number) -> (bound, error)


def norms(model: nn.Module, target: nn.Module, inputs: Tensor) -> Tensor:
    """Euclidean norm of each error; of the largest token's."""
    with torch.no_grad():
        error = (model(inputs) - target(inputs)).norm(dim=-1)
    return error if error.ndim == 1 else error.amax(dim=1)


def worst(model: nn.Module, target: nn.Module, shape: tuple[int, ...], radius: float, steps: int = 40) -> float:
    """The largest error that gradient ascent finds with every input (token) in the ball."""
    points = torch.randn(128, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    points[:64] *= radius
    best = 0.0
    for step in range(steps):
        points = points * (radius / points.norm(dim=-1, keepdim=True)).clamp(max=1.0)
        points = points.detach().requires_grad_()
        error = (model(points) - target(points)).norm(dim=-1)
        peak = error if error.ndim == 1 else error.amax(dim=1)
        best = max(best, float(peak.detach().max()))
        (gradient,) = torch.autograd.grad(peak.sum(), points)
        length = gradient.norm(dim=-1, keepdim=True).clamp(min=1e-300)
        points = points.detach() + radius * 0.8**step * gradient / length
    return best


def weights_of(model: FNN) -> tuple[list[Tensor], list[Tensor]]:
    return [layer.weight.detach() for layer in model.linears], [layer.bias.detach() for layer in model.linears]


def trained(frozen: FNN, target: FNN, rank: int, generator: torch.Generator, steps: int = 150) -> FNN:
    """LoRA by Adam, all ReLUs in use."""
    weights, biases = weights_of(frozen)
    down = [0.25 * torch.randn(rank, frozen.width, generator=generator, dtype=torch.float64) for _ in weights]
    up = [torch.zeros(frozen.width, rank, dtype=torch.float64) for _ in weights]
    biases = [bias.clone() for bias in biases]
    parameters = [value.requires_grad_() for value in (*down, *up, *biases)]
    optimiser = torch.optim.Adam(parameters, lr=1e-2)
    for _ in range(steps):
        inputs = torch.randn(256, frozen.width, generator=generator, dtype=torch.float64)
        hidden = inputs
        for weight, left, right, bias in zip(weights, up, down, biases, strict=True):
            hidden = torch.relu(hidden @ (weight + left @ right).T + bias)
        loss = (hidden - target(inputs).detach()).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        merged = [weight + left @ right for weight, left, right in zip(weights, up, down, strict=True)]
        return FNN.from_weights(merged, [bias.detach() for bias in biases])


def linearised(rows: Rows, width: int, groups: int, depth: int, seed: int) -> None:
    """The closed form, whose groups are affine maps."""
    name, generator = f"closed form {groups},{depth}", torch.Generator().manual_seed(seed)
    frozen, target = (FNN(width, layers, generator=generator) for layers in (depth, groups))
    inputs = torch.randn(4096, width, generator=generator, dtype=torch.float64)
    goals, biases = weights_of(target)
    eye = torch.eye(width, dtype=torch.float64)
    for rank in range(1, -(-width // (depth // groups))):
        found = construct.stable(frozen, target, rank, partition=uniform_partition(depth, groups))
        errors = norms(found.model, target, inputs)
        mean, size = float(errors.mean()), math.sqrt(width)
        merged = [layer.weight.detach() for layer in found.model.linears]
        products = [product([merged[layer] for layer in group]) for group in uniform_partition(depth, groups)]
        for number, bound in (
            ("theorem5_bound", theorem5_bound(weights_of(frozen)[0], goals, biases, rank, eye)),
            ("sharp_bound", sharp_bound(weights_of(frozen)[0], goals, biases, rank, eye)),
            ("moment_bound", moment_bound(products, goals, activation_moments(goals, biases, inputs))),
            ("expected_error_bound", found.certificate.expected_error_bound),
            ("population_bound", population_bound(errors, found.certificate.error_bound)),
        ):
            rows[name, number].append((float(bound), mean))
        for radius in (size, 6 * size):
            again = found if radius > size else construct.stable(frozen, target, rank, domain=Ball(radius))
            bound = again.certificate.error_bound
            rows[name, f"error_bound, radius {radius:.0f}"].append(
                (bound, worst(again.model, target, (width,), radius))
            )


def kept(rows: Rows, width: int, groups: int, depth: int, seed: int) -> None:
    """Networks whose ReLUs are in use: trained, and a small change of a deeper network's own."""
    generator = torch.Generator().manual_seed(seed)
    frozen, target = (FNN(width, layers, generator=generator) for layers in (depth, groups))
    inputs = torch.randn(4096, width, generator=generator, dtype=torch.float64)
    size = math.sqrt(width)
    near = [0.02 * torch.randn(width, width, generator=generator, dtype=torch.float64) for _ in range(depth)]
    weights, biases = weights_of(frozen)
    moved = FNN.from_weights([weight + change for weight, change in zip(weights, near, strict=True)], biases)
    cases = [(f"trained {groups},{depth}", trained(frozen, target, rank, generator), target) for rank in (1, 4)]
    cases.append((f"perturbed {depth},{depth}", moved, frozen))
    for name, model, goal in cases:
        partition = uniform_partition(model.depth, goal.depth)
        mean = float(norms(model, goal, inputs).mean())
        for radius in (size, 6 * size):
            bounds = bound_networks(model, goal, Ball(radius), partition, inputs)
            bound = (bounds.error, worst(model, goal, (width,), radius))
            rows[name, f"error_bound, radius {radius:.0f}"].append(bound)
            if bounds.expected is not None:
                rows[name, "expected_error_bound"].append((bounds.expected, mean))


def refined(rows: Rows, width: int, groups: int, depth: int, seed: int) -> None:
    """What ``lorascope.adapt`` finds: groups linearised or kept, whichever is nearer."""
    name, generator = f"refined {groups},{depth}", torch.Generator().manual_seed(seed)
    frozen, target = (FNN(width, layers, generator=generator) for layers in (depth, groups))
    inputs, radius = torch.randn(4096, width, generator=generator, dtype=torch.float64), 6 * math.sqrt(width)
    for rank in (1, 4):
        found = construct.refined(frozen, target, rank, profile="fast")
        mean, certificate = float(norms(found.model, target, inputs).mean()), found.certificate
        bound = (certificate.error_bound, worst(found.model, target, (width,), radius))
        rows[name, f"error_bound, radius {radius:.0f}"].append(bound)
        rows[name, "expected_error_bound"].append((certificate.expected_error_bound, mean))


def transformers(rows: Rows, width: int, depth: int, tame: bool, seed: int) -> None:
    """The paper's networks, and tame ones: near the identity, scores of size 1."""
    generator = torch.Generator().manual_seed(seed)
    name = f"transformer, depth {depth}" + (", tame" if tame else "")
    frozen, target = (TransformerNetwork(width, 2, depth, generator=generator) for _ in range(2))
    if tame:
        with torch.no_grad():
            for parameter in [*frozen.parameters(), *target.parameters()]:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                scale = 0.1 / width**0.5
                parameter.copy_(scale * noise if parameter.ndim == 1 else torch.eye(width) / 2 + scale * noise)
    inputs = torch.randn(512, 10, width, generator=generator, dtype=torch.float64)
    radius = float(inputs.norm(dim=-1).max())
    for rank in range(1, -(-width // 2)):
        found = construct.stable(frozen, target, rank, domain=Ball(radius), samples=inputs)
        mean = float(norms(found.model, target, inputs).mean())
        residuals = float(bound_on_samples(found.model, target, inputs, measured=False).mean())
        most = worst(found.model, target, (10, width), radius)
        for number, bound, error in (
            ("transformer_bound, a priori", transformer_bound(frozen, target, rank, radius), most),
            ("error_bound", found.certificate.error_bound, most),
            ("bound_on_samples, a posteriori", residuals, mean),
            ("expected_error_bound", found.certificate.expected_error_bound, mean),
        ):
            rows[name, number].append((float(bound), error))


def table(fill: Callable[[Rows], object]) -> None:
    rows: Rows = defaultdict(list)
    fill(rows)
    for (network, number), pairs in rows.items():
        ratios = torch.tensor([bound / error for bound, error in pairs], dtype=torch.float64)
        order = float(spearmanr(*zip(*pairs, strict=True)).statistic) if len(pairs) > 3 else math.nan
        print(
            f"{network:26} {number:31} {float(ratios.median()):8.3g} {float(ratios.min()):8.3g} "
            f"{float(ratios.max()):8.3g} {order:6.2f} {len(pairs):6} {int((ratios < 1).sum()):6}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--width", type=int, default=16, help="of fully connected networks; transformers: half of it")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'network':26} {'number':31} {'median':>8} {'least':>8} {'most':>8}  order  cases  below")
    seeds, width = range(chosen.seeds), chosen.width
    for groups, depth in ((1, 2), (2, 4)):
        for build in (linearised, refined, kept):
            table(lambda rows, g=groups, d=depth, build=build: [build(rows, width, g, d, seed) for seed in seeds])
    for tame in (True, False):
        for depth in (1, 2):
            table(lambda rows, d=depth, t=tame: [transformers(rows, width // 2, d, t, seed) for seed in seeds])


if __name__ == "__main__":
    main()
