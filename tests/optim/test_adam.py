"""Adam over a members axis against torch's own optimiser, one member at a time."""

import math

import pytest
import torch

from lorascope.optim import adam, by_autograd, cosine


def loss_of(batch):
    def loss(step, parameters):
        weight, bias = parameters
        return ((weight @ batch + bias[:, :, None]).tanh() - 0.3).square().mean(dim=(1, 2)) * (1 + 0.1 * step)

    return loss


def by_torch(batch, weight, bias, steps, rate, decay, schedule, multipliers, optimiser):
    leaves = [weight.clone().requires_grad_(), bias.clone().requires_grad_()]
    groups = [{"params": [leaf], "lr": rate * factor} for leaf, factor in zip(leaves, multipliers, strict=True)]
    optimiser = optimiser(groups, weight_decay=decay)
    for step in range(steps):
        optimiser.zero_grad()
        loss_of(batch)(step, [leaf[None] for leaf in leaves]).sum().backward()
        for group, factor in zip(optimiser.param_groups, multipliers, strict=True):
            group["lr"] = rate * factor * (schedule((step + 1) / steps) if schedule else 1.0)
        optimiser.step()
    return [leaf.detach() for leaf in leaves]


@pytest.mark.parametrize("schedule", [None, cosine(0.1)])
@pytest.mark.parametrize("decays", [None, (0.0, 1e-2, 0.3)])
@pytest.mark.parametrize("multipliers", [(1.0, 1.0), (1.0, 0.5), (1.0, 0.0)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("decoupled", [False, True])
def test_every_member_is_torchs_own_run(generator, schedule, decays, multipliers, dtype, tolerance, decoupled):
    optimiser = torch.optim.AdamW if decoupled else torch.optim.Adam
    weight = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64).to(dtype)
    bias = torch.randn(3, 4, generator=generator, dtype=torch.float64).to(dtype)
    batch = torch.randn(5, 6, generator=generator, dtype=torch.float64).to(dtype)
    rates = [1e-3, 1e-2, 0.0]
    before = weight.clone(), bias.clone()
    found = adam(
        by_autograd(loss_of(batch)),
        [weight, bias],
        20,
        torch.tensor(rates, dtype=torch.float64),
        schedule=schedule,
        weight_decay=None if decays is None else torch.tensor(decays, dtype=torch.float64),
        multipliers=multipliers,
        decoupled=decoupled,
    )
    assert torch.equal(weight, before[0])
    assert torch.equal(bias, before[1])
    for member, rate in enumerate(rates):
        decay = 0.0 if decays is None else decays[member]
        wanted = by_torch(batch, weight[member], bias[member], 20, rate, decay, schedule, multipliers, optimiser)
        for part, expected in zip(found, wanted, strict=True):
            torch.testing.assert_close(part[member], expected, rtol=tolerance, atol=tolerance)
        if rate == 0:
            assert torch.equal(found[0][member], weight[member])


def test_steps_end_at_the_deadline_and_progress_is_told(generator):
    weight, batch = torch.ones(1, 2, 2), torch.randn(2, 3, generator=generator)
    told = []
    gradient = by_autograd(loss_of(batch))
    adam(gradient, [weight, torch.zeros(1, 2)], 4, torch.ones(1), progress=told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]
    told.clear()
    adam(gradient, [weight, torch.zeros(1, 2)], 4, torch.ones(1), deadline=-math.inf, progress=told.append)
    assert told == [0.25]


def test_parameters_that_share_memory_with_their_gradient_and_empty_ones_are_fine():
    target = torch.full((2, 3), 2.0)

    def gradient(step, parameters):
        value, empty = parameters
        return torch.zeros(2), [(value - target).sign(), torch.zeros_like(empty)]

    value, empty = adam(gradient, [torch.zeros(2, 3), torch.zeros(2, 0, 3)], 100, torch.tensor([0.1, 0.1]))
    torch.testing.assert_close(value, target, rtol=0, atol=0.3)
    assert empty.shape == (2, 0, 3)
