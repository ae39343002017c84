"""Chunks of members: what they hand out and take back."""

import torch

from lorascope.optim import LayeredGradient
from lorascope.tune.engine import TorchChunk


def a_chunk(rates=(1e-2, 1e-3)):
    generator = torch.Generator().manual_seed(0)
    weight, a = torch.randn(3, 3, generator=generator), torch.randn(2, 1, 3, generator=generator)
    start = [a, torch.zeros(2, 3, 1), torch.zeros(2, 3)]
    return TorchChunk.of([0, 1], LayeredGradient([weight]), start, list(rates), [0.0, 0.1])


def batches(number):
    generator = torch.Generator().manual_seed(1)
    return [tuple(pair) for pair in torch.randn(number, 2, 8, 3, generator=generator)]


def test_a_restored_chunk_goes_on_with_the_same_bits():
    held_out, *block = batches(9)
    whole, first, second = a_chunk(), a_chunk(), a_chunk()
    seen = whole.advance(block, 0, [0, 2, 4, 6], held_out)
    early = first.advance(block[:4], 0, [0, 2], held_out)
    state = first.state()
    first.advance(block[4:6], 4, [4], held_out)  # what was handed out is a copy
    second.restore(state)
    late = second.advance(block[4:], 4, [4, 6], held_out)
    assert torch.equal(torch.cat([early, late]), seen)
    assert torch.equal(second.finish(held_out), whole.finish(held_out))
    assert all(torch.equal(one, other) for one, other in zip(second.kept, whole.kept, strict=True))
    assert torch.equal(second.best, whole.best)
    assert not torch.equal(first.state()["parameters"], state["parameters"])
