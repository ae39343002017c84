"""One run at a time in plain PyTorch, with the networks' own forward and torch's own optimiser."""

import copy

import torch
from torch.func import functional_call

from reference.objectives import by_torch


def lora_alone(
    frozen, target, member, names, biases, steps, pairs, held_out, objective="mse", optimiser=torch.optim.Adam
):
    """The parameters of the lowest held-out loss, the last ones, and the losses before each step and after the last.

    Args:
        names: parameter name -> rank.
        biases: names of the biases that are trained.
        pairs: (inputs, targets) for each step.
        held_out: (inputs, targets).
    """
    start = torch.Generator().manual_seed(member.seed)
    weights = {name: value.detach().clone() for name, value in frozen.named_parameters()}
    right, left = {}, {}
    for name, rank in names.items():
        *heads, out, inp = weights[name].shape
        dtype = weights[name].dtype
        right[name] = (0.25 * torch.randn(*heads, rank, inp, generator=start, dtype=dtype)).requires_grad_()
        left[name] = torch.zeros(*heads, out, rank, dtype=dtype).requires_grad_()
    if member.start.kind == "random":
        for name, rank in names.items():
            *heads, out, _ = weights[name].shape
            draws = torch.randn(*heads, out, rank, generator=start, dtype=weights[name].dtype)
            left[name] = (0.25 * draws).requires_grad_()
    shifts = {name: weights[name].clone().requires_grad_() for name in biases}
    trained = [*right.values(), *left.values(), *shifts.values()]

    def now():
        merged = {name: weights[name] + left[name] @ right[name] for name in names}
        return weights | merged | shifts

    def loss_of(inputs, targets):
        return by_torch(functional_call(frozen, now(), (inputs,)), targets, objective)

    groups = [
        {"params": [*right.values(), *shifts.values()], "lr": member.lr},
        {"params": list(left.values()), "lr": member.lr * member.lr_ratio},
    ]
    steps_ = optimiser(groups, weight_decay=member.weight_decay) if trained else None
    losses, states = [], []
    for step in range(steps + 1):
        with torch.no_grad():
            losses.append(float(loss_of(*held_out)))
            states.append(copy.deepcopy({name: value.detach() for name, value in now().items()}))
        if step < steps:
            steps_.zero_grad()
            loss_of(*pairs[step]).backward()
            steps_.step()
    best = min(range(len(losses)), key=losses.__getitem__)
    return states[best], states[-1], losses


def draws(generator, shape, batch, steps, target, dtype, width):
    """The held-out batch and one batch a step, in the documented order of draws, padded to ``width``."""
    found = []
    for _ in range(steps + 1):
        inputs = torch.randn(batch, *shape, generator=generator, dtype=dtype)
        with torch.no_grad():
            targets = target(inputs.to(next(target.parameters()).dtype)).to(dtype)
        pad = (0, width - shape[-1])
        found.append((torch.nn.functional.pad(inputs, pad), torch.nn.functional.pad(targets, pad)))
    return found[0], found[1:]
